/**
 * Places where a test can kill the process, to prove that nothing is lost there.
 *
 * A point does nothing unless SLUICE_CRASH_POINTS names it. `commit.after` kills the process when it passes the point
 * for the first time, `commit.after@3` when it passes it for the third time; several points are separated by commas.
 * The process is killed by SIGKILL, as by the kernel: no cleanup, no flush. A line is written before that: it proves to
 * the test that its fault fired.
 */
import { writeSync } from 'node:fs'
import { FatalError } from './errors.ts'

export const CRASH_POINTS = [
  /** A producer's batch is complete, Redis does not have it. */
  'append.before',
  /** Redis has entries and cursor, the producer does not know. */
  'append.after',
  /** All statements ran, the transaction is open. */
  'commit.before',
  /** The transaction is durable; the records of others that it affects are not settled yet. */
  'settle.before',
  /** Some records of a deleted account are removed, others are not. */
  'purge.between',
  /** The transaction is durable, its entries are not acked. */
  'commit.after',
  /** Acked, and nothing else done. */
  'ack.after',
  /** Some chunks of a repository are appended, not all. */
  'chunk.between',
  /** The signal to stop arrived. */
  'drain.begin',
  /** One step of ending a bulk load is done, the next is not begun. */
  'bulk.step',
] as const
export type CrashPoint = (typeof CRASH_POINTS)[number]

/** For each armed point: how many passes are left until it kills. */
const armed = parseCrashPoints(process.env.SLUICE_CRASH_POINTS ?? '')

/** Kills the process when a test has armed this point. Unarmed: 4 ns a pass, as any empty function. */
export const crashPoint: (point: CrashPoint) => void = armed.size === 0 ? () => {} : pass

/** The points that are armed in this process; a production system has none. */
export function armedCrashPoints(): string[] {
  return [...armed].map(([point, passes]) => `${point}@${passes}`)
}

/**
 * Reads `name[@n],…`. Returns for each name the number of the pass that kills.
 * @throws FatalError for a name that does not exist: a fault test that injects nothing must not pass
 */
export function parseCrashPoints(text: string): Map<CrashPoint, number> {
  return new Map(
    text.split(',').flatMap((item) => {
      if (item.trim() === '') return []
      const [name, passes = '1'] = item.trim().split('@')
      const point = CRASH_POINTS.find((known) => known === name)
      if (!point) throw new FatalError(`SLUICE_CRASH_POINTS: there is no ${name}, only ${CRASH_POINTS.join(', ')}`)
      if (!/^[1-9]\d*$/.test(passes))
        throw new FatalError(`SLUICE_CRASH_POINTS: ${item} needs a number from 1 after the @`)
      return [[point, Number(passes)] as const]
    }),
  )
}

function pass(point: CrashPoint): void {
  const left = armed.get(point)
  if (left === undefined) return
  armed.set(point, left - 1)
  if (left !== 1) return
  writeSync(2, `crash point ${point}\n`)
  process.kill(process.pid, 'SIGKILL')
}

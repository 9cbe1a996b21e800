/**
 * Many chaos runs, some at a time, each in a process of its own with its own stores and ports: what one leaves behind
 * is not taken for another's, and one that dies is a failed run. They end with the process that started them.
 */
import { fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { CrashPoint } from '@sluice/runtime/crash-points.ts'
import { blankReport, type ChaosReport } from './chaos.ts'

export interface ManyOptions {
  seeds: readonly number[]
  parallel: number
  /** Further arguments of each run. */
  args: readonly string[]
  onReport: (report: ChaosReport) => void
}

/** Maps do not survive a message. */
type Sent = Omit<ChaosReport, 'fired' | 'points'> & {
  fired: [string, number][]
  points: [CrashPoint, number][]
}

const PROGRAM = fileURLToPath(new URL('simulate.ts', import.meta.url))

/** In the order in which they ended. */
export async function manyRuns({ seeds, parallel, args, onReport }: ManyOptions): Promise<ChaosReport[]> {
  const reports: ChaosReport[] = []
  const left = seeds.values()
  const lane = async (): Promise<void> => {
    for (const seed of left) {
      const report = await runOf(seed, args)
      reports.push(report)
      onReport(report)
    }
  }
  await Promise.all(Array.from({ length: Math.min(parallel, seeds.length) }, lane))
  return reports
}

/** To whoever started this process with `manyRuns`. */
export async function sendReport(report: ChaosReport): Promise<void> {
  const sent = { ...report, fired: [...report.fired], points: [...report.points] }
  await new Promise<void>((resolve) => process.send!(sent, undefined, undefined, () => resolve()))
  process.disconnect()
}

/** A run whose parent is gone ends, and the guard ends what it started. */
export function endWithParent(): void {
  process.once('disconnect', () => process.exit())
}

async function runOf(seed: number, args: readonly string[]): Promise<ChaosReport> {
  const begin = performance.now()
  const child = fork(PROGRAM, ['--child', '--seed', String(seed), ...args])
  let sent: Sent | undefined
  child.on('message', (message) => void (sent = message as Sent))
  const end = await new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(String(error)))
    child.once('exit', (code, signal) => resolve(String(signal ?? code)))
  })
  if (sent === undefined) return failed(seed, (performance.now() - begin) / 1000, end)
  return { ...sent, fired: new Map(sent.fired), points: new Map(sent.points) }
}

function failed(seed: number, seconds: number, end: string): ChaosReport {
  return { ...blankReport(seed), seconds, problems: [`the run ended (${end}) without a report`] }
}

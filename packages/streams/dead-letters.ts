/**
 * Dead letters: entries that can never be applied, kept in `<stream>_dlq` with everything that is needed to understand and replay them.
 *
 * A dead letter is stored and its entry acked in one step, so it is in exactly one of the two places. The dead-letter stream has a cap:
 * when it is full nothing is lost, the entry stays pending and the stream stops until somebody looks.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, type Redis } from './connection.ts'
import { runScript, scripts } from './scripts.ts'

export interface DeadLetter {
  /** Its id in the dead-letter stream. */
  id: string
  stream: string
  entryId: string
  /** From a closed list: a metric label. */
  reason: string
  /** SQLSTATE, errno or the like, when there is one. */
  code: string
  message: string
  /** How often it was tried. */
  attempts: number
  /** When it was given up (ISO 8601). */
  time: string
  /** The entry as it was. */
  fields: EntryFields
}

export interface Burial {
  stream: string
  group: string
  entryId: string
  fields: EntryFields
  reason: string
  code?: string | undefined
  message: string
  attempts: number
}

export const deadLetterStream = (stream: string): string => `${stream}_dlq`

/** More than this is not poison but an outage or a bug of ours: stop and ask. */
export const DEAD_LETTERS_MAX = 100_000
const MESSAGE_CHARS_MAX = 2_000

/**
 * Stores the dead letter and acks its entry, in a full Redis too; once, even when an answer gets lost and it is tried again.
 * @throws TransientError while the dead-letter stream is full
 */
export async function bury(redis: Redis, burial: Burial, cap = DEAD_LETTERS_MAX): Promise<void> {
  const { stream, group, entryId, fields, reason, code = '', message, attempts } = burial
  const letter = {
    stream,
    id: entryId,
    reason,
    code,
    message: message.slice(0, MESSAGE_CHARS_MAX),
    attempts: String(attempts),
    time: new Date().toISOString(),
    payload: JSON.stringify(fields),
  }
  let stored: unknown
  try {
    const args = [group, entryId, String(cap), ...Object.entries(letter).flat()]
    stored = await runScript(redis, scripts.bury, [stream, deadLetterStream(stream)], args)
  } catch (error) {
    throw classifyRedisError(error)
  }
  if (stored !== 1) {
    throw new TransientError(
      `${deadLetterStream(stream)} is full (${cap}): ${stream} waits. Look at them with \`sluice dlq list\`, then retry or drop them`,
    )
  }
}

export interface DeadLetterCount {
  total: number
  /** Reason → how many. */
  reasons: Record<string, number>
}

/** The script holds their payload while it counts: not more than a hundred records of a megabyte. */
const CENSUS_ENTRIES = 100

/** How many there are of each reason. Their payload stays where it is. @throws TransientError */
export async function countDeadLetters(redis: Redis, stream: string): Promise<DeadLetterCount> {
  const reasons: Record<string, number> = {}
  let total = 0
  for (let start = '-'; ;) {
    const args = [start, String(CENSUS_ENTRIES)]
    const reply = await runScript(redis, scripts.census, [deadLetterStream(stream)], args).catch((error: unknown) => {
      throw classifyRedisError(error)
    })
    const [last, ...counts] = reply as [string, ...(string | number)[]]
    if (last === '') return { total, reasons }
    for (let i = 0; i < counts.length; i += 2) {
      const [reason, count] = [String(counts[i]), Number(counts[i + 1])]
      reasons[reason] = (reasons[reason] ?? 0) + count
      total += count
    }
    start = `(${last}`
  }
}

/** Dead letters in order of burial, at most `count`, after `afterId`. @throws TransientError */
export async function listDeadLetters(
  redis: Redis,
  stream: string,
  count: number,
  afterId = '-',
): Promise<DeadLetter[]> {
  const start = afterId === '-' ? '-' : `(${afterId}`
  try {
    const entries = await redis.xRange(deadLetterStream(stream), start, '+', { COUNT: count })
    return (entries ?? []).map(({ id, message }) => toDeadLetter(stream, id, message))
  } catch (error) {
    throw classifyRedisError(error)
  }
}

/** Tolerant: other programs may have put something there, and one that is damaged must not hide the others. */
function toDeadLetter(stream: string, id: string, m: Record<string, string>): DeadLetter {
  return {
    id,
    stream,
    entryId: m.id ?? '',
    reason: m.reason ?? 'unknown',
    code: m.code ?? '',
    message: m.message ?? '',
    attempts: Number(m.attempts ?? 0),
    time: m.time ?? '',
    fields: parseFields(m.payload),
  }
}

function parseFields(payload = '{}'): EntryFields {
  try {
    const fields: unknown = JSON.parse(payload)
    if (typeof fields !== 'object' || fields === null) return {}
    return Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, String(value)]))
  } catch {
    return {}
  }
}

/**
 * Puts dead letters back at the end of their stream and removes them here, each in one step: one that is gone already is not put back again.
 * Returns how many. @throws FatalError for one without payload, which can only be dropped
 */
export async function replayDeadLetters(redis: Redis, letters: readonly DeadLetter[]): Promise<number> {
  let replayed = 0
  for (const { id, stream, fields } of letters) {
    const flat = Object.entries(fields).flat()
    if (flat.length === 0) throw new FatalError(`dead letter ${id} of ${stream} has no payload; drop it`)
    try {
      replayed += Number(await runScript(redis, scripts.exhume, [deadLetterStream(stream), stream], [id, ...flat]))
    } catch (error) {
      throw classifyRedisError(error)
    }
  }
  return replayed
}

/** Removes dead letters for good. Returns how many there were. @throws TransientError */
export async function dropDeadLetters(redis: Redis, stream: string, ids: readonly string[]): Promise<number> {
  if (ids.length === 0) return 0
  try {
    return await redis.xDel(deadLetterStream(stream), [...ids])
  } catch (error) {
    throw classifyRedisError(error)
  }
}

/**
 * Dead letters: entries that can never be applied, kept in `<stream>_dlq` with everything that is needed to understand
 * and retry them.
 *
 * A dead letter is stored and its entry acked in one step, so it is in exactly one of the two places. Putting it back
 * is one step too. The dead-letter stream has a cap. When it is full nothing is lost: the entry stays pending, and the
 * stream stops until an operator makes room.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { classified, type Redis } from './connection.ts'
import { runScript, scripts } from './scripts.ts'

export interface DeadLetter {
  /** Its id in the dead-letter stream. */
  id: string
  stream: string
  entryId: string
  /** The id that its entry had when it first came; '' when nobody noted it before the letter was put back. */
  firstId: string
  /** From a closed list: a metric label. */
  reason: string
  /** SQLSTATE, errno or the like, when there is one. */
  code: string
  message: string
  /** How often it was tried. */
  attempts: number
  /** How often an operator had put it back before. */
  retries: number
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
  /**
   * Only the latest letter of a key is kept: all letters of a key are about the same work, which fails again each time
   * it is requested.
   */
  key?: string | undefined
}

/** Selects dead letters of a stream: by id, by reason, or all that are there at the start. */
export type Selection = readonly string[] | { reason: string } | 'all'

export const deadLetterStream = (stream: string): string => `${stream}_dlq`

/** A hash: key → id of its latest dead letter, for streams whose letters have keys. */
export const latestLetters = (stream: string): string => `${deadLetterStream(stream)}:latest`

/**
 * More dead letters than this are not single bad entries but an outage or a bug of ours: the stream stops and waits for
 * an operator.
 */
export const DEAD_LETTERS_MAX = 100_000
const MESSAGE_CHARS_MAX = 2_000
/**
 * The field that tells how often an entry was put back. It is added to the fields that the entry had; readers of
 * entries look at their own field only.
 */
const RETRIES_FIELD = 'retries'
/**
 * The field that tells the id under which the entry first came. An entry that was put back gets a new id, which says
 * nothing about its age.
 */
const FIRST_FIELD = 'first'
/** Dead letters in one reply. Each may have a megabyte. */
const PAGE_LETTERS = 50

/** The dead-letter stream is full: the stream waits until an operator retries or drops some letters. */
export class DeadLettersFullError extends TransientError {
  override name = 'DeadLettersFullError'
}

/**
 * Stores the dead letter and acks its entry, in a full Redis too. It is stored only once, even when an answer gets lost
 * and the call is tried again. Returns how many dead letters there are then.
 * @throws DeadLettersFullError while there is no room; then nothing has happened
 */
export async function bury(redis: Redis, burial: Burial, cap = DEAD_LETTERS_MAX): Promise<number> {
  const { stream, group, entryId, fields, reason, code = '', message, attempts, key } = burial
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
  const keys = [stream, deadLetterStream(stream), ...(key === undefined ? [] : [latestLetters(stream)])]
  const args = [group, entryId, String(cap), key ?? '', ...Object.entries(letter).flat()]
  const letters = await classified(runScript(redis, scripts.bury, keys, args))
  if (letters === 0) {
    throw new DeadLettersFullError(
      `${deadLetterStream(stream)} is full (${cap}): ${stream} waits. Look at them with \`sluice dlq list\`, then retry or drop them`,
    )
  }
  return Number(letters)
}

export interface DeadLetterCount {
  total: number
  /** Reason → how many. */
  reasons: Record<string, number>
}

/**
 * Dead letters that the script counts in one call. It holds their payload meanwhile, which may be a hundred records of
 * a megabyte.
 */
const CENSUS_LETTERS = 100

/**
 * Counts the dead letters of each reason. Their payload stays in Redis.
 * @throws TransientError
 */
export async function countDeadLetters(redis: Redis, stream: string): Promise<DeadLetterCount> {
  const reasons: Record<string, number> = {}
  let total = 0
  for (let start = '-'; ;) {
    const args = [start, String(CENSUS_LETTERS)]
    const reply = await classified(runScript(redis, scripts.census, [deadLetterStream(stream)], args))
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

/**
 * Yields the selected letters page by page, in the order in which they were stored. For ids: those that exist, in the
 * order given.
 * @throws TransientError
 */
export async function* selectDeadLetters(
  redis: Redis,
  stream: string,
  selection: Selection,
): AsyncGenerator<DeadLetter[]> {
  if (isIds(selection)) {
    yield* lettersById(redis, stream, selection)
    return
  }
  for await (const letters of allLetters(redis, stream)) {
    yield selection === 'all' ? letters : letters.filter(({ reason }) => reason === selection.reason)
  }
}

async function* lettersById(redis: Redis, stream: string, ids: readonly string[]): AsyncGenerator<DeadLetter[]> {
  const key = deadLetterStream(stream)
  for (const page of slices(ids, PAGE_LETTERS)) {
    const found = await Promise.all(page.map(async (id) => classified(redis.xRange(key, id, id))))
    yield found.flat().flatMap((entry) => (entry ? [toDeadLetter(stream, entry.id, entry.message)] : []))
  }
}

async function* allLetters(redis: Redis, stream: string): AsyncGenerator<DeadLetter[]> {
  const key = deadLetterStream(stream)
  // Only up to the letter that is the newest now. A letter that is put back meanwhile may become a dead letter again at
  // once, at the end of the stream, and this loop would never end.
  const newest = await classified(redis.xRevRange(key, '+', '-', { COUNT: 1 }))
  const end = newest?.[0]?.id
  if (end === undefined) return
  for (let start = '-'; ;) {
    const entries = await classified(redis.xRange(key, start, end, { COUNT: PAGE_LETTERS }))
    const letters = (entries ?? []).map(({ id, message }) => toDeadLetter(stream, id, message))
    const last = letters.at(-1)
    if (last === undefined) return
    start = `(${last.id}`
    yield letters
  }
}

const isIds = (selection: Selection): selection is readonly string[] => Array.isArray(selection)

export interface Retried {
  /** How many are back in their stream. */
  retried: number
  /** Letters without a payload to put back. They stay, and can only be dropped. */
  damaged: string[]
}

/**
 * Puts the selected dead letters back at the end of their stream, as the entries they were, with marks that tell how
 * often that was done and under which id they first came. Each letter is removed in the same step that puts it back, so
 * two operators who do this at once put it back once.
 * @throws TransientError, e.g. when Redis is full; letters that were put back before that stay put back
 */
export async function retryDeadLetters(redis: Redis, stream: string, selection: Selection): Promise<Retried> {
  const result: Retried = { retried: 0, damaged: [] }
  for await (const letters of selectDeadLetters(redis, stream, selection)) {
    const [damaged, whole] = [letters.filter(isDamaged), letters.filter((letter) => !isDamaged(letter))]
    result.damaged.push(...damaged.map(({ id }) => id))
    result.retried += await retryLetters(redis, whole)
  }
  return result
}

/** Returns how many of the letters were still there. */
async function retryLetters(redis: Redis, letters: readonly DeadLetter[]): Promise<number> {
  // All are sent on one connection, so Redis executes them in this order.
  const done = await Promise.all(letters.map(async (letter) => retryLetter(redis, letter)))
  return done.filter(Boolean).length
}

const isDamaged = ({ fields }: DeadLetter): boolean => Object.keys(fields).length === 0

async function retryLetter(redis: Redis, { id, stream, fields, retries, firstId }: DeadLetter): Promise<boolean> {
  const first = firstId === '' ? {} : { [FIRST_FIELD]: firstId }
  const marked = Object.entries({ ...fields, [RETRIES_FIELD]: String(retries + 1), ...first }).flat()
  const keys = [deadLetterStream(stream), stream]
  return (await classified(runScript(redis, scripts.retryLetter, keys, [id, ...marked]))) === 1
}

/**
 * Removes the selected dead letters for good. Returns how many were removed.
 * @throws TransientError
 */
export async function dropDeadLetters(redis: Redis, stream: string, selection: Selection): Promise<number> {
  let dropped = 0
  for await (const letters of selectDeadLetters(redis, stream, selection)) {
    if (letters.length === 0) continue
    const ids = letters.map(({ id }) => id)
    dropped += await classified(redis.xDel(deadLetterStream(stream), ids))
  }
  return dropped
}

/** Accepts any fields: other programs may have put something there, and a damaged letter must not hide the others. */
function toDeadLetter(stream: string, id: string, m: Record<string, string>): DeadLetter {
  const fields = parseFields(m.payload)
  const retries = Number(fields[RETRIES_FIELD] ?? 0) || 0
  return {
    id,
    stream,
    entryId: m.id ?? '',
    firstId: fields[FIRST_FIELD] ?? (retries > 0 ? '' : (m.id ?? '')),
    reason: m.reason ?? 'unknown',
    code: m.code ?? '',
    message: m.message ?? '',
    attempts: Number(m.attempts ?? 0),
    retries,
    time: m.time ?? '',
    fields,
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

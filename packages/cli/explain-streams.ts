/**
 * Where a record or an account is in Redis: waiting entries, the consumers that hold them, dead letters, requested
 * fetches, the state of its chain.
 */
import { priorityStream, retryKey } from '@sluice/streams/backfill-queue.ts'
import { readChains, type ChainRecord } from '@sluice/streams/chain-state.ts'
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { selectDeadLetters } from '@sluice/streams/dead-letters.ts'
import { listPending } from '@sluice/streams/pending.ts'
import { readingsOf, type Reading, type Settings } from './config.ts'
import { hasGroup } from './groups.ts'
import { describeSubject, subjectOf } from './subject.ts'

export interface QueuedEntry {
  stream: string
  id: string
  about: string
  /** The consumer that holds the entry; absent: nobody has taken it yet. */
  consumer?: string
  idleMs?: number
  deliveries?: number
}

export interface QueuePlace {
  entries: QueuedEntry[]
  /** True: the streams have more entries than were read. */
  isPartial: boolean
  /** The oldest first. */
  deadLetters: Letter[]
  /** The places where its repository waits to be fetched. */
  fetches: { where: string; reason?: string }[]
  chain: ChainRecord | undefined
}

export interface Letter {
  stream: string
  id: string
  reason: string
  message: string
  /** The rev that its entry names; absent: it names none, or cannot be read. */
  rev?: string
}

export interface Wanted {
  did: string
  /** undefined: the account as a whole. */
  uri: string | undefined
  scan: number
}

const PAGE = 1_000
const FOUND_MAX = 50

/** @throws TransientError */
export async function explainStreams(redis: Redis, settings: Settings, wanted: Wanted): Promise<QueuePlace> {
  try {
    const place: QueuePlace = { entries: [], isPartial: false, deadLetters: [], fetches: [], chain: undefined }
    for (const reading of readingsOf(settings)) {
      await scanStream(redis, reading, wanted, place)
      await scanDeadLetters(redis, reading.stream, wanted, place)
    }
    for (const stream of [settings.backfilled, priorityStream(settings.backfilled)]) {
      await scanRetries(redis, retryKey(stream), wanted, place)
    }
    place.chain = (await readChains(redis, [wanted.did]))[0]?.record
    return place
  } catch (error) {
    throw classifyRedisError(error)
  }
}

async function scanRetries(redis: Redis, key: string, { did }: Wanted, place: QueuePlace): Promise<void> {
  for await (const page of redis.zScanIterator(key, { MATCH: `*${did}*` })) {
    for (const { value, score } of page) {
      place.fetches.push({ where: `${key}, due ${new Date(score).toISOString()}`, reason: value.slice(0, 300) })
    }
  }
}

function isAbout(fields: Record<string, string>, { did, uri }: Wanted): boolean {
  // A cheap test that misses nothing: a DID contains no character that JSON would escape.
  if (!Object.values(fields).some((text) => text.includes(did))) return false
  const subject = subjectOf(fields)
  return uri === undefined ? subject.did === did : subject.uri === uri
}

/** Reads the oldest entries and the newest: a stuck entry is old, and one that was just made is new. */
async function scanStream(redis: Redis, reading: Reading, wanted: Wanted, place: QueuePlace): Promise<void> {
  const { stream } = reading
  const total = await redis.xLen(stream)
  const isPartial = total > wanted.scan * 2
  if (isPartial) place.isPartial = true
  const found: QueuedEntry[] = []
  const look = async (entries: AsyncIterable<StreamEntry>): Promise<void> => {
    for await (const entry of entries) {
      if (reading.role === 'backfiller') noteFetch(stream, entry, wanted, place)
      else if (isAbout(entry.message, wanted)) {
        const about = describeSubject(subjectOf(entry.message))
        found.push({ stream, id: entry.id, about, ...(await holderOf(redis, reading, entry.id)) })
      }
      if (found.length >= FOUND_MAX) return
    }
  }
  await look(oldest(redis, stream, isPartial ? wanted.scan : total))
  if (isPartial && found.length < FOUND_MAX) await look(newest(redis, stream, wanted.scan))
  place.entries.push(...found)
}

function noteFetch(stream: string, { id, message }: StreamEntry, { did }: Wanted, place: QueuePlace): void {
  const subject = subjectOf(message)
  if (subject.did === did) place.fetches.push({ where: `${stream} ${id}`, reason: subject.verb })
}

interface StreamEntry {
  id: string
  message: Record<string, string>
}

async function* oldest(redis: Redis, stream: string, count: number): AsyncGenerator<StreamEntry> {
  let start = '-'
  for (let seen = 0; seen < count;) {
    const page = (await redis.xRange(stream, start, '+', { COUNT: Math.min(PAGE, count - seen) })) ?? []
    if (page.length === 0) return
    yield* page
    seen += page.length
    start = `(${page.at(-1)!.id}`
  }
}

async function* newest(redis: Redis, stream: string, count: number): AsyncGenerator<StreamEntry> {
  let end = '+'
  for (let seen = 0; seen < count;) {
    const page = (await redis.xRevRange(stream, end, '-', { COUNT: Math.min(PAGE, count - seen) })) ?? []
    if (page.length === 0) return
    yield* page
    seen += page.length
    end = `(${page.at(-1)!.id}`
  }
}

async function holderOf(redis: Redis, { stream, group }: Reading, id: string): Promise<Partial<QueuedEntry>> {
  if (!(await hasGroup(redis, stream, group))) return {}
  const [ms, seq] = id.split('-').map(BigInt)
  const after = seq! > 0n ? `${ms}-${seq! - 1n}` : `${ms! - 1n}-18446744073709551615`
  const [pending] = await listPending(redis, { stream, group, consumer: '' }, { idleMs: 0, count: 1, after })
  if (pending?.id !== id) return {}
  const { consumer, idleMs, deliveries } = pending
  return { consumer, idleMs, deliveries }
}

async function scanDeadLetters(redis: Redis, stream: string, wanted: Wanted, place: QueuePlace): Promise<void> {
  for await (const page of selectDeadLetters(redis, stream, 'all')) {
    for (const { id, fields, reason, message } of page) {
      if (isAbout(fields, wanted) && place.deadLetters.length < FOUND_MAX)
        place.deadLetters.push({ stream, id, reason, message, ...revOf(fields) })
    }
  }
}

function revOf(fields: Record<string, string>): Pick<Letter, 'rev'> {
  const { rev } = subjectOf(fields)
  return rev === undefined ? {} : { rev }
}

/**
 * The state of one stream: what waits in it, which consumers work on it, and how old their entries are. It only reads,
 * with a handful of cheap commands for each group, whatever the depth of the stream. The commands go to a live server
 * one after the other, so their figures may differ by what happened between them.
 */
import { describeError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, WrongTypeError, type Redis } from './connection.ts'
import { DEAD_LETTERS_MAX, countDeadLetters, deadLetterStream, type DeadLetterCount } from './dead-letters.ts'
import { leaseKey } from './lease.ts'

export interface StreamState {
  stream: string
  /** False: the stream was never written to, or was lost. Then the other fields are empty. */
  exists: boolean
  /** Why the stream could not be read: the key has another type. Then the other fields say nothing. */
  error?: string
  /** Entries, pending ones included. */
  entries: number
  /** Memory of the stream, estimated by Redis from a sample of its nodes. */
  bytes: number
  oldest?: EntryAge
  newest?: EntryAge
  /** The age of the oldest entry that some group has not acked, in seconds; 0 when all are acked. */
  lagSeconds: number
  groups: GroupState[]
  deadLetters: DeadLetterCount & { cap: number }
}

export interface EntryAge {
  id: string
  /** Time since the entry was appended, in seconds, by the clock of Redis. */
  ageSeconds: number
}

export interface GroupState {
  group: string
  /** Entries that were handed out and are not acked. */
  pending: number
  /** Entries that were not handed out yet; undefined where Redis cannot tell (entries were deleted out of order). */
  undelivered?: number
  lastDeliveredId: string
  /** The age of the oldest entry that this group has not acked, in seconds. */
  lagSeconds: number
  oldestPending?: PendingState
  consumers: ConsumerState[]
}

export interface PendingState extends EntryAge {
  consumer: string
  /** Time since the entry's consumer last touched it. */
  idleSeconds: number
  deliveries: number
}

export interface ConsumerState {
  consumer: string
  pending: number
  /** Its oldest pending entry. Absent: it has none, or is not among the `CONSUMERS_AGED` that have the most. */
  oldestPending?: PendingState
  /** Time since the consumer last sent Redis a command, in seconds; 0 for a consumer that waits for its first entry. */
  idleSeconds: number
  /** Host and pid of the process that holds the name; undefined: no living process of Sluice has it. */
  holder?: string
}

/** The most consumers of a group whose oldest entries are asked for, with one command each. */
export const CONSUMERS_AGED = 32

/** How many nodes of the stream Redis measures to estimate its size. */
const MEMORY_SAMPLES = 20

export interface Looking {
  redis: Redis
  /** Unix ms by the clock of Redis. */
  now: number
  /**
   * The keys of all leases. They are needed because Redis itself does not know a consumer that waits for its first
   * entry.
   */
  leases: readonly string[]
  /**
   * False: dead letters are only counted, and no consumer is asked for its oldest entry. The reasons would cost a
   * script that reads all letters. Default true.
   */
  reasons?: boolean
}

/** @throws TransientError while Redis cannot be reached; FatalError when it refuses us the commands */
export async function streamState(stream: string, looking: Looking): Promise<StreamState> {
  const { redis } = looking
  const none: StreamState = {
    stream,
    exists: false,
    entries: 0,
    bytes: 0,
    lagSeconds: 0,
    groups: [],
    deadLetters: { total: 0, reasons: {}, cap: DEAD_LETTERS_MAX },
  }
  try {
    const [deadLetters, exists] = await Promise.all([lettersOf(stream, looking), redis.exists(stream)])
    const letters = { ...none, deadLetters: { ...deadLetters, cap: DEAD_LETTERS_MAX } }
    return exists === 0 ? letters : { ...letters, exists: true, ...(await contents(stream, looking)) }
  } catch (error) {
    const cause = classifyRedisError(error)
    // A key of another type concerns only this stream, and must not hide the other streams. A server that is away, is
    // loading or refuses the command hides everything: that must not look like an empty stream.
    if (!(cause instanceof WrongTypeError)) throw cause
    return { ...none, exists: true, error: describeError(cause) }
  }
}

async function lettersOf(stream: string, { redis, reasons = true }: Looking): Promise<DeadLetterCount> {
  if (reasons) return await countDeadLetters(redis, stream)
  return { total: await redis.xLen(deadLetterStream(stream)), reasons: {} }
}

async function contents(stream: string, looking: Looking) {
  const { redis, now } = looking
  const [entries, bytes, first, last, groups] = await Promise.all([
    redis.xLen(stream),
    redis.memoryUsage(stream, { SAMPLES: MEMORY_SAMPLES }),
    redis.xRange(stream, '-', '+', { COUNT: 1 }),
    redis.xRevRange(stream, '+', '-', { COUNT: 1 }),
    redis.xInfoGroups(stream),
  ])
  const oldest = ageOf(first?.[0]?.id, now)
  const newest = ageOf(last?.[0]?.id, now)
  const states = await Promise.all(
    groups.map(async (group) => groupState(stream, group as unknown as GroupInfo, looking)),
  )
  // Without a group no entry has been processed yet.
  const lags = states.length === 0 ? [oldest?.ageSeconds ?? 0] : states.map(({ lagSeconds }) => lagSeconds)
  return {
    entries,
    bytes: bytes ?? 0,
    ...(oldest && { oldest }),
    ...(newest && { newest }),
    lagSeconds: Math.max(...lags),
    groups: states,
  }
}

interface GroupInfo {
  name: string
  pending: number
  'last-delivered-id': string
  lag?: number | null
}

async function groupState(stream: string, info: GroupInfo, looking: Looking): Promise<GroupState> {
  const { redis, now } = looking
  const { name: group, pending, lag, 'last-delivered-id': lastDeliveredId } = info
  const [[row], next, consumers] = await Promise.all([
    redis.xPendingRange(stream, group, '-', '+', 1),
    redis.xRange(stream, `(${lastDeliveredId}`, '+', { COUNT: 1 }),
    consumerStates(stream, group, looking),
  ])
  const oldestPending = row && pendingState(row, now)
  const waiting = ageOf(next?.[0]?.id, now)
  return {
    group,
    pending,
    ...(typeof lag === 'number' && { undelivered: lag }),
    lastDeliveredId,
    lagSeconds: Math.max(oldestPending?.ageSeconds ?? 0, waiting?.ageSeconds ?? 0),
    ...(oldestPending && { oldestPending }),
    consumers,
  }
}

type PendingRow = Awaited<ReturnType<Redis['xPendingRange']>>[number]

function pendingState(row: PendingRow, now: number): PendingState {
  const { id, consumer, millisecondsSinceLastDelivery, deliveriesCounter } = row
  return {
    ...ageOf(id, now)!,
    consumer,
    idleSeconds: millisecondsSinceLastDelivery / 1_000,
    deliveries: deliveriesCounter,
  }
}

/** The oldest pending entries of the consumers that have the most, by consumer. */
async function oldestOf(
  stream: string,
  group: string,
  pending: readonly { name: string; pending: number }[],
  { redis, now }: Looking,
): Promise<Map<string, PendingState>> {
  const asked = pending.filter((one) => one.pending > 0).toSorted((a, b) => b.pending - a.pending)
  const rows = await Promise.all(
    asked
      .slice(0, CONSUMERS_AGED)
      .map(({ name: consumer }) => redis.xPendingRange(stream, group, '-', '+', 1, { consumer })),
  )
  return new Map(rows.flat().map((row) => [row.consumer, pendingState(row, now)]))
}

async function consumerStates(stream: string, group: string, looking: Looking): Promise<ConsumerState[]> {
  const { redis, leases, reasons = true } = looking
  const known = new Map((await redis.xInfoConsumers(stream, group)).map((info) => [info.name, info]))
  const prefix = leaseKey({ stream, group, consumer: '' })
  const alive = leases.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))
  const names = [...new Set([...known.keys(), ...alive])].toSorted()
  const oldest = reasons ? await oldestOf(stream, group, [...known.values()], looking) : undefined
  return Promise.all(
    names.map(async (consumer): Promise<ConsumerState> => {
      const holder = await redis.hGet(leaseKey({ stream, group, consumer }), 'details')
      const info = known.get(consumer)
      const oldestPending = oldest?.get(consumer)
      return {
        consumer,
        pending: info?.pending ?? 0,
        ...(oldestPending && { oldestPending }),
        idleSeconds: (info?.idle ?? 0) / 1_000,
        ...(holder !== null && { holder }),
      }
    }),
  )
}

/** The age of an entry: its id begins with the time at which it was appended. */
function ageOf(id: string | undefined, now: number): EntryAge | undefined {
  if (id === undefined) return undefined
  return { id, ageSeconds: Math.max(0, now - Number(id.split('-')[0])) / 1_000 }
}

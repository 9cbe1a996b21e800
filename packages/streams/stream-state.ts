/**
 * How one stream stands: what waits in it, who works on it, and for how long already. It only reads, by a handful of cheap commands for each group,
 * whatever the depth. They go to a live server one after the other, so their numbers may differ by what happened between them.
 */
import { describeError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, WrongTypeError, type Redis } from './connection.ts'
import { DEAD_LETTERS_MAX, countDeadLetters, deadLetterStream, type DeadLetterCount } from './dead-letters.ts'
import { leaseKey } from './lease.ts'

export interface StreamState {
  stream: string
  /** Not there: never written to, or lost. Then the rest is empty. */
  exists: boolean
  /** Why it could not be looked at: a key of another type. Then the rest says nothing. */
  error?: string
  /** Entries, pending ones included. */
  entries: number
  /** Of memory, estimated by Redis from a sample of the nodes. */
  bytes: number
  oldest?: EntryAge
  newest?: EntryAge
  /** Of the oldest entry that some group has not acked, in seconds; 0 when all is done. */
  lagSeconds: number
  groups: GroupState[]
  deadLetters: DeadLetterCount & { cap: number }
}

export interface EntryAge {
  id: string
  /** Since it was appended, in seconds, by the clock of Redis. */
  ageSeconds: number
}

export interface GroupState {
  group: string
  /** Handed out and not acked. */
  pending: number
  /** Not handed out yet; undefined where Redis cannot tell (entries were deleted out of turn). */
  undelivered?: number
  lastDeliveredId: string
  /** Of the oldest entry that this group has not acked, in seconds. */
  lagSeconds: number
  oldestPending?: PendingState
  consumers: ConsumerState[]
}

export interface PendingState extends EntryAge {
  consumer: string
  /** Since its consumer last touched it. */
  idleSeconds: number
  deliveries: number
}

export interface ConsumerState {
  consumer: string
  pending: number
  /** Since it last asked Redis for anything, in seconds; 0 for one that waits for its first entry. */
  idleSeconds: number
  /** Host and pid of the process that has the name; undefined: none of ours is alive under it. */
  holder?: string
}

/** Nodes of the stream that are measured for its size. */
const MEMORY_SAMPLES = 20

export interface Looking {
  redis: Redis
  /** Unix ms by the clock of Redis. */
  now: number
  /** Keys of all leases: Redis itself does not know a consumer that waits for its first entry. */
  leases: readonly string[]
  /** False: dead letters are counted and not looked at, which costs a script over all of them. Default true. */
  reasons?: boolean
}

/** @throws TransientError while Redis cannot be asked; FatalError when we may not */
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
    // One key that is not ours must not hide all the others. A server that is away, loads or forbids hides everything: nobody must take that for an empty stream.
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
  // Without a group, nobody has done anything yet.
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
  const oldestPending = row && {
    ...ageOf(row.id, now)!,
    consumer: row.consumer,
    idleSeconds: row.millisecondsSinceLastDelivery / 1_000,
    deliveries: row.deliveriesCounter,
  }
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

async function consumerStates(stream: string, group: string, { redis, leases }: Looking): Promise<ConsumerState[]> {
  const known = new Map((await redis.xInfoConsumers(stream, group)).map((info) => [info.name, info]))
  const prefix = leaseKey({ stream, group, consumer: '' })
  const alive = leases.filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))
  const names = [...new Set([...known.keys(), ...alive])].toSorted()
  return Promise.all(
    names.map(async (consumer): Promise<ConsumerState> => {
      const holder = await redis.hGet(leaseKey({ stream, group, consumer }), 'details')
      const info = known.get(consumer)
      return {
        consumer,
        pending: info?.pending ?? 0,
        idleSeconds: (info?.idle ?? 0) / 1_000,
        ...(holder !== null && { holder }),
      }
    }),
  )
}

/** An id begins with the time at which its entry was appended. */
function ageOf(id: string | undefined, now: number): EntryAge | undefined {
  if (id === undefined) return undefined
  return { id, ageSeconds: Math.max(0, now - Number(id.split('-')[0])) / 1_000 }
}

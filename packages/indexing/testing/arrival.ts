/**
 * The orders in which the events of a world (`world.ts`) arrive, cut into batches: shuffled, backwards, account by
 * account, a little late, or read again from some way back; some events twice.
 */
import { uriOf, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import { exportOf } from './exports.ts'
import type { World } from './world.ts'

export interface Arrival {
  world: World
  batches: readonly (readonly StreamEvent[])[]
}

type Order = (events: readonly RecordEvent[], random: Random) => RecordEvent[]

/** Orders in which each account's events stay in their order. */
const IN_ORDER: readonly Order[] = [(events) => [...events], readAgain, accountByAccount]
const ANY_ORDER: readonly Order[] = [...IN_ORDER, shuffled, shuffled, (events) => events.toReversed(), aLittleLate]
const RECORDS_IN_CHUNK = 6

export function arrivalOf(world: World, random: Random): Arrival {
  const order = random.pick(world.kind === 'in-order' ? IN_ORDER : ANY_ORDER)
  const delivered: StreamEvent[] = order(world.events, random)
  const insert = (events: readonly StreamEvent[]): unknown =>
    delivered.splice(random.below(delivered.length + 1), 0, ...events)
  const chunks = world.kind === 'exported' ? world.dids.flatMap((did) => exportedOf(world, did, random)) : []
  for (const chunk of [...chunks, ...chunks.filter(() => random.chance(0.3))]) {
    if (random.chance(0.6)) insert([...chunk, ...versionsIn(world, chunk, random)])
    else for (const event of chunk) insert([event])
  }
  return { world, batches: cut(delivered, random) }
}

/**
 * The batches of one lane, of `lanes` that apply at once. In a world of the kind `in-order` a lane gets all events of
 * some accounts, so that each account's events keep their order.
 */
export function laneOf({ world, batches }: Arrival, lane: number, lanes: number): Arrival['batches'] {
  if (world.kind !== 'in-order') return batches.filter((_, i) => i % lanes === lane)
  return batches.map((batch) => batch.filter(({ did }) => world.dids.indexOf(did) % lanes === lane))
}

/**
 * Picks some versions, deletions included, of the records that a chunk holds: events that are redelivered, or arrive
 * late, just then.
 */
function versionsIn({ events }: World, chunk: readonly StreamEvent[], random: Random): RecordEvent[] {
  const held = new Set(chunk.flatMap((event) => (event.type === 'create' ? [uriOf(event)] : [])))
  return random.shuffled(events.filter((event) => held.has(uriOf(event)) && random.chance(0.3)))
}

function cut(events: readonly StreamEvent[], random: Random): StreamEvent[][] {
  const most = random.pick([1, 2, 5, 20, 200])
  const batches: StreamEvent[][] = []
  for (let at = 0; at < events.length;) batches.push(events.slice(at, (at += 1 + random.below(most))))
  return batches
}

function shuffled(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  return random.shuffled([...events, ...events.filter(() => random.chance(0.3))])
}

function aLittleLate(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  const late = events.map((event, i) => ({ event, at: i + random.next() * random.pick([3, 10, 30]) }))
  return late.sort((a, b) => a.at - b.at).map(({ event }) => event)
}

/** Reads some events again now and then, from some way back, as after a crash. */
function readAgain(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  const read: RecordEvent[] = []
  for (let at = 0; at < events.length;) {
    const to = at + 1 + random.below(12)
    read.push(...events.slice(at, to))
    at = random.chance(0.4) && read.length < 6 * events.length ? Math.max(0, to - random.below(20)) : to
  }
  return read
}

/** Mixes accounts as if they came from several hosts, one of which may be far behind. */
function accountByAccount(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  const queues = Map.groupBy(events, ({ did }) => did)
  const speeds = new Map([...queues.keys()].map((did) => [did, random.next() ** 3 + 0.01]))
  const read: RecordEvent[] = []
  while (queues.size > 0) {
    const did = random.weighted(Object.fromEntries([...queues.keys()].map((one) => [one, speeds.get(one)!])))
    const queue = queues.get(did)!
    read.push(queue.shift()!)
    if (queue.length === 0) queues.delete(did)
  }
  return read
}

/**
 * Makes at most one export of an account: of two exports with different versions, the order decides which counts. The
 * export's head is no edit: a version that comes by its own commit and by an export of that commit may count from
 * either.
 */
function exportedOf({ events }: World, did: string, random: Random): StreamEvent[][] {
  const heads = events.flatMap((event, i) => (event.did === did && event.type !== 'update' ? [i + 1] : []))
  if (heads.length === 0 || random.chance(0.2)) return []
  const until = events.slice(0, random.pick(heads))
  const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
  return exportOf({ until, did, time, random, chunk: RECORDS_IN_CHUNK })
}

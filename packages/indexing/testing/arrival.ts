/**
 * The orders in which the events of a world arrive (`world.ts`), cut into batches: shuffled, backwards, account by account, a little late, or read again from some way back; some of
 * them twice. And of a world and its arrival fewer events, to look for the fewest that still go wrong.
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

/** Each account's events stay in their order. */
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

/** What one of so many that apply at once gets: where each account's events keep their order, all of some accounts. */
export function laneOf({ world, batches }: Arrival, lane: number, lanes: number): Arrival['batches'] {
  if (world.kind !== 'in-order') return batches.filter((_, i) => i % lanes === lane)
  return batches.map((batch) => batch.filter(({ did }) => world.dids.indexOf(did) % lanes === lane))
}

/** Some versions of what a chunk holds, and its end: what comes again, or has been late, just then. */
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

/** Now and then from some way back again, as after a crash. */
function readAgain(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  const read: RecordEvent[] = []
  for (let at = 0; at < events.length;) {
    const to = at + 1 + random.below(12)
    read.push(...events.slice(at, to))
    at = random.chance(0.4) && read.length < 6 * events.length ? Math.max(0, to - random.below(20)) : to
  }
  return read
}

/** As from several hosts, of which one may be far behind. */
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
 * At most one export of an account: of two with different versions which one counts depends on the order. Its head is no edit: a version that comes by its own commit and by an export of
 * that counts from either.
 */
function exportedOf({ events }: World, did: string, random: Random): StreamEvent[][] {
  const heads = events.flatMap((event, i) => (event.did === did && event.type !== 'update' ? [i + 1] : []))
  if (heads.length === 0 || random.chance(0.2)) return []
  const until = events.slice(0, random.pick(heads))
  const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
  return exportOf({ until, did, time, random, chunk: RECORDS_IN_CHUNK })
}

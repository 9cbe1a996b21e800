/**
 * The orders in which the events of a world (`world.ts`) arrive, cut into batches: shuffled, backwards, account by
 * account, path by path, a little late, or read again from some way back; some events twice, and with exports of the
 * world's accounts.
 */
import {
  pathOf,
  SEQ_BACKFILL,
  uriOf,
  type CreateEvent,
  type RecordEvent,
  type StreamEvent,
} from '@sluice/events/stream-event.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import { exportOf, repositoryOf } from './exports.ts'
import { DATED_BY_CLAIM, hasExports, JUDGED_BY, type World } from './world.ts'

export type Batches = readonly (readonly StreamEvent[])[]

export interface Arrival {
  world: World
  /**
   * What comes, in its natural order, one event or part of an export at a time. Exports of what comes by its own
   * commits too are left out, since they tell nothing.
   */
  natural: Batches
  batches: Batches
}

type Order = (events: readonly RecordEvent[], random: Random) => RecordEvent[]

/** Orders in which each account's events stay in their order. */
const IN_ORDER: readonly Order[] = [(events) => [...events], readAgain, accountByAccount]
const ANY_ORDER: readonly Order[] = [
  ...IN_ORDER,
  shuffled,
  shuffled,
  (events) => events.toReversed(),
  aLittleLate,
  pathByPath,
]

export function arrivalOf(world: World, random: Random): Arrival {
  const exports = hasExports(world.kind) ? world.dids.flatMap((did) => exportsOf(world, did, random)) : []
  const missing = new Map(
    world.kind === 'backfilled' ? exports.toReversed().map(({ did, head }) => [did, head] as const) : [],
  )
  const isMissing = (event: RecordEvent, i: number): boolean => i <= (missing.get(event.did) ?? -1)
  const live = world.events.filter((event, i) => !isMissing(event, i))
  const natural = world.events.flatMap((event, i) => [
    ...(isMissing(event, i) ? [] : [[event]]),
    ...(world.kind === 'backfilled' ? exports.flatMap(({ head, chunks }) => (head === i ? chunks : [])) : []),
  ])
  const order = random.pick(world.kind === 'in-order' ? IN_ORDER : ANY_ORDER)
  const chunks = exports.flatMap((one) => one.chunks)
  const parts = [...chunks, ...chunks.filter(() => random.chance(0.3))].map((chunk) => ({
    chunk,
    beside: random.chance(0.85) ? versionsIn(live, chunk, random) : [],
  }))
  // Some have been late until a part of an export comes, others come again with it.
  const late = new Set(parts.flatMap(({ beside }) => beside.filter(() => random.chance(0.5))))
  // What comes together: one event, or part of an export with what it tells of.
  const delivered: StreamEvent[][] = order(
    live.filter((event) => !late.has(event)),
    random,
  ).map((event) => [event])
  for (const { chunk, beside } of parts) {
    const isTogether = beside.length > 0 || random.chance(0.5)
    const units = isTogether ? [[...chunk, ...beside]] : chunk.map((event) => [event])
    for (const unit of units) delivered.splice(random.below(delivered.length + 1), 0, unit)
  }
  return { world, natural, batches: commitsNext(cut(delivered, random)) }
}

/**
/**
 * The batches of one lane, of `lanes` that apply at once. In a world of the kind `in-order`, and where `isByAccount`, a
 * lane gets all events of some accounts: then each account's events keep their order, and all lanes have work at the
 * same time. Otherwise each lane takes the next batch, about accounts that others may be at work on.
 */
export function laneOf({ world, batches }: Arrival, lane: number, lanes: number, isByAccount: boolean): Batches {
  if (world.kind !== 'in-order' && !isByAccount) return batches.filter((_, i) => i % lanes === lane)
  return batches.map((batch) => batch.filter(({ did }) => world.dids.indexOf(did) % lanes === lane))
}

/**
 * Picks some versions, deletions included, of paths in the ranges of a chunk: events that are redelivered, or arrive
 * late, just then.
 */
function versionsIn(events: readonly RecordEvent[], chunk: readonly StreamEvent[], random: Random): RecordEvent[] {
  const isIn = (event: RecordEvent): boolean =>
    chunk.some(
      (one) =>
        one.type === 'repo' &&
        one.did === event.did &&
        pathOf(event) >= one.range![0] &&
        (one.range![1] === '' || pathOf(event) < one.range![1]),
    )
  return random.shuffled(events.filter((event) => isIn(event) && random.chance(0.5)))
}

/** What comes together is in one batch, as a rule. */
function cut(units: readonly (readonly StreamEvent[])[], random: Random): StreamEvent[][] {
  const most = random.pick([1, 2, 5, 20, 200])
  const apart = random.chance(0.3) ? units.flat().map((event) => [event]) : units
  const batches: StreamEvent[][] = []
  for (let at = 0; at < apart.length;) batches.push(apart.slice(at, (at += 1 + random.below(most))).flat())
  return batches
}

/**
 * Of what nothing is known yet, and what comes in one batch by its own commit and by an export, counts from when it
 * says: so its commits come next.
 */
function commitsNext(batches: readonly StreamEvent[][]): StreamEvent[][] {
  const [known, exported] = [new Set<string>(), new Set<string>()]
  return batches.flatMap((batch) => {
    for (const event of batch) if (event.type === 'repo') exported.add(event.did)
    const brought = new Set(batch.flatMap((event) => (isExported(event) ? [uriOf(event)] : [])))
    const isNext = (event: StreamEvent): boolean =>
      'collection' in event && !isExported(event) && brought.has(uriOf(event)) && !known.has(uriOf(event))
    const parts = [batch.filter((event) => !isNext(event)), batch.filter(isNext)].filter(({ length }) => length > 0)
    // Below the head of an export what comes by its own commit leaves nothing.
    for (const event of batch)
      if ('collection' in event && (isExported(event) || !exported.has(event.did))) known.add(uriOf(event))
    return parts
  })
}

function isExported(event: StreamEvent): event is CreateEvent {
  return event.type === 'create' && event.seq === SEQ_BACKFILL
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

/** All versions of a path, then those of another. */
function pathByPath(events: readonly RecordEvent[], random: Random): RecordEvent[] {
  return random.shuffled([...Map.groupBy(events, uriOf).values()]).flatMap((versions) => random.shuffled(versions))
}

interface Export {
  did: string
  /** The number of its last event. */
  head: number
  chunks: StreamEvent[][]
}

/**
 * At most two exports of an account, each at the end of a commit that edits nothing: a version that comes by its own
 * commit and by an export of that counts from either. Of two with different versions of one of these which one counts
 * depends on the order; so too where an export comes before the commit that it repeats and the path was emptied before
 * that.
 */
function exportsOf(world: World, did: string, random: Random): Export[] {
  const { kind, events } = world
  const own = events.flatMap((event, i) => (event.did === did ? [{ event, i }] : []))
  const edits = new Set(own.flatMap(({ event: { type, rev } }) => (type === 'update' ? [rev] : [])))
  const ends = own.flatMap(({ event, i }, nth) =>
    own[nth + 1]?.event.rev === event.rev ? [] : [{ i, rev: event.rev }],
  )
  const heads = ends.filter(({ rev }) => kind === 'backfilled' || !edits.has(rev)).map(({ i }) => i)
  if (heads.length === 0 || random.chance(0.15)) return []
  const first = random.chance(0.5) ? random.pickRecent(heads) : random.pick(heads)
  const later = ends
    .filter(({ i, rev }) => i > first && !edits.has(rev) && isClear(world, did, first, i))
    .map(({ i }) => i)
  const chunk = random.pick([1, 3, 40, 40])
  return [first, ...(later.length > 0 && random.chance(0.5) ? [random.pick(later)] : [])].map((head) => {
    const until = events.slice(0, head + 1)
    const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
    return { did, head, chunks: exportOf({ until, did, time, random, chunk }) }
  })
}

/**
 * Whether what the two exports say of what others are judged by is the same in any order: what the second one has was
 * written once, or before the first one. Where own commits come too, these date follows and list items.
 */
function isClear({ kind, events }: World, did: string, first: number, second: number): boolean {
  const judgedBy = kind === 'exported' ? DATED_BY_CLAIM : JUDGED_BY
  const before = repositoryOf(events.slice(0, first + 1), did)
  const versions = Map.groupBy(events.slice(0, second + 1), uriOf)
  return [...repositoryOf(events.slice(0, second + 1), did)].every(
    ([path, event]) =>
      !judgedBy.has(event.collection) || before.get(path) === event || versions.get(uriOf(event))!.length === 1,
  )
}

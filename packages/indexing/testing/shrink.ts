/**
 * Finds, for an arrival (`arrival.ts`) that ends differently from the natural order, one with as few events as possible
 * that still does; and prints it.
 */
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import type { Arrival, Batches } from './arrival.ts'
import { hash } from './made-up.ts'
import { hasExports } from './world.ts'

/**
 * Leaves out half of the events, a quarter, … one, as long as the arrival still fails without them. With exports, all
 * events of a path are left out, in the exports too. If the failure depends on what happens at the same moment, the
 * search may end early.
 * @param failing returns one of these candidates that fails, if any. Each has accounts of its own, so that all can go
 * into one index
 */
export async function shrunk(
  arrival: Arrival,
  failing: (candidates: readonly Arrival[]) => Promise<Arrival | undefined>,
): Promise<Arrival> {
  let [fewest, tries] = [arrival, 0]
  for (let size = Math.ceil(arrival.batches.flat().length / 2); size > 0;) {
    const all = [...fewest.world.events, ...fewest.batches.flat()]
    const names = [...new Set(all.map((event) => nameOf(fewest, event)))].filter((name) => name !== '')
    const candidates: Arrival[] = []
    for (let at = 0; at < names.length && names.length > size; at += size) {
      candidates.push(renamed(without(fewest, new Set(names.slice(at, at + size))), ++tries))
    }
    const found = candidates.length > 0 ? await failing(candidates) : undefined
    if (found) fewest = found
    else size = size === 1 ? 0 : Math.ceil(size / 2)
  }
  return fewest
}

/** Prints what is wrong, the events, then the batches by the numbers of their events. Accounts are letters. */
export function tell({ world, batches }: Arrival, wrong: readonly string[]): string {
  const { dids, events, mutes } = world
  const told = (event: StreamEvent): string => {
    if (event.type === 'create' && event.seq < 0)
      return `${events.findIndex((one) => uriOf(one) === uriOf(event) && 'cid' in one && one.cid === event.cid)} exported at ${event.rev}`
    if (event.type === 'repo')
      return `exported of ${event.did} at ${event.rev} "${event.range?.join('" to "')}" with ${event.keys?.length}`
    return String(events.findIndex((one) => 'seq' in event && one.seq === event.seq))
  }
  const lines = [
    ...wrong,
    ...mutes.map(([root, did]) => `${did} has muted ${root}`),
    ...events.map((event, i) => `${i}: ${brief(event)}`),
    ...batches.map((batch) => `batch ${batch.map(told).join(', ')}`),
  ]
  return dids.reduce((text, did, i) => text.replaceAll(did, 'ABCDEF'[i]!), lines.join('\n'))
}

function brief(event: StreamEvent): string {
  if (event.type !== 'create' && event.type !== 'update' && event.type !== 'delete') return JSON.stringify(event)
  const { type, seq, rev } = event
  const said =
    event.type === 'delete'
      ? ''
      : JSON.stringify(event.record, (key, value: unknown) => (key === 'cid' ? undefined : value))
  return `${seq < 0 ? 'export' : type} ${uriOf(event)} at ${rev} ${said}`
}

/**
 * What can be left out: an event; with exports all of a path, there too, and what tells of a range that nothing is in.
 */
function nameOf({ world }: Arrival, event: StreamEvent): string {
  if (event.type === 'repo') return event.keys?.length === 0 ? `${event.did} ${event.rev} ${event.range![0]}` : ''
  if (event.type !== 'create' && event.type !== 'update' && event.type !== 'delete') return ''
  return hasExports(world.kind) ? uriOf(event) : String(event.seq)
}

function without(arrival: Arrival, names: ReadonlySet<string>): Arrival {
  const left = <T extends StreamEvent>(events: readonly T[]): T[] =>
    events
      .filter((event) => !names.has(nameOf(arrival, event)))
      .map((event) =>
        event.type === 'repo' && event.keys
          ? { ...event, keys: event.keys.filter((path) => !names.has(`at://${event.did}/${path}`)) }
          : event,
      )
  const cut = (batches: Batches): Batches => batches.map(left).filter((batch) => batch.length > 0)
  const { world, natural, batches } = arrival
  return { world: { ...world, events: left(world.events) }, natural: cut(natural), batches: cut(batches) }
}

/** The same arrival with other accounts. */
function renamed(arrival: Arrival, n: number): Arrival {
  const text = arrival.world.dids.reduce(
    (all, did) => all.replaceAll(did, `did:plc:${hash(`${did} ${n}`).slice(0, 24)}`),
    JSON.stringify(arrival),
  )
  return JSON.parse(text) as Arrival
}

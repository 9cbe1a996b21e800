/**
 * Measures one indexer while its index grows from nothing, with checkpoints as far apart as infra/postgres sets them. After each checkpoint PostgreSQL writes a page whole when it is first
 * changed, so only the mean over whole checkpoints tells how fast an index of a size is.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import type { Bed, Costs } from './bed.ts'
import { append, applied, openRedis, startIndexer, STREAM } from './ours.ts'

export interface GrowthWindow {
  /** Events that were applied before this window. */
  before: number
  events: number
  costs: Costs
  /** Checkpoints that began in this window. */
  checkpoints: number
}

/** One process applies all events, in windows: `chunks` has the events of one window each. @param onWindow called after each window */
export async function measureGrowth(
  bed: Bed,
  database: { name: string; url: string },
  chunks: Iterable<readonly EntryFields[]>,
  onWindow: (window: GrowthWindow) => void,
): Promise<GrowthWindow[]> {
  await using redis = await openRedis(bed)
  await redis.flushDb()
  const indexer = await startIndexer(bed, database.url, 'growth')
  await using _ = { [Symbol.asyncDispose]: () => indexer.stop() }
  const windows: GrowthWindow[] = []
  let before = 0
  for (const events of chunks) {
    indexer.pause()
    await append(redis, STREAM, events)
    const checkpoints = await checkpointsOf(bed)
    const apply = async (): Promise<void> => {
      indexer.resume()
      await applied(redis)
    }
    const costs = await bed.costs(database.name, apply, [indexer.pid])
    const window = { before, events: events.length, costs, checkpoints: (await checkpointsOf(bed)) - checkpoints }
    windows.push(window)
    onWindow(window)
    before += events.length
  }
  return windows
}

/** The windows from one checkpoint to the next: those between which `events` were reached, or else the last whole ones. Empty when there are no two checkpoints. */
export function wholeCheckpoint(windows: readonly GrowthWindow[], events: number): GrowthWindow[] {
  const starts = windows.flatMap(({ checkpoints }, i) => (checkpoints > 0 ? [i] : []))
  const whole = starts.slice(1).map((end, i) => windows.slice(starts[i], end))
  const isAround = (cycle: GrowthWindow[]): boolean => cycle.some(({ before, events: n }) => before + n >= events)
  return whole.find(isAround) ?? whole.at(-1) ?? []
}

/** Events a second over all these windows. */
export function rateOf(windows: readonly GrowthWindow[]): number {
  const sum = (of: (window: GrowthWindow) => number): number => windows.reduce((total, window) => total + of(window), 0)
  return sum(({ events }) => events) / sum(({ costs }) => costs.seconds)
}

async function checkpointsOf(bed: Bed): Promise<number> {
  const [row] = await bed.postgres.query<{ begun: string }>(
    'select num_timed + num_requested as begun from pg_stat_checkpointer',
  )
  return Number(row!.begun)
}

/**
 * The pending entries of a group (handed out and not acked): which consumer holds each, since when, and how an entry
 * changes hands.
 */
import { classified, type Redis } from './connection.ts'
import { toEntry, type Entry, type EntryReply, type GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

export interface PendingEntry {
  id: string
  consumer: string
  /** Time since the entry was handed out or last touched. */
  idleMs: number
  /** How often the entry was handed out. */
  deliveries: number
}

export interface PendingQuery {
  /** Only entries that were not touched for this long. */
  idleMs: number
  count: number
  /** Only after this entry id. */
  after?: string | undefined
  consumer?: string
}

/** Pending entries of the group, in order of their ids. */
export async function listPending(
  redis: Redis,
  { stream, group }: GroupAddress,
  { idleMs, count, after, consumer }: PendingQuery,
): Promise<PendingEntry[]> {
  const start = after === undefined ? '-' : `(${after}`
  const options = consumer === undefined ? { IDLE: idleMs } : { IDLE: idleMs, consumer }
  const rows = await classified(redis.xPendingRange(stream, group, start, '+', count, options))
  return rows.map((row) => ({
    id: row.id,
    consumer: row.consumer,
    idleMs: row.millisecondsSinceLastDelivery,
    deliveries: row.deliveriesCounter,
  }))
}

export interface Claimed {
  entries: Entry[]
  /** Ids that were pending although their entry was deleted. They are pending no more. */
  phantoms: string[]
}

/**
 * Claims entries for this consumer, as a new delivery, unless they were touched or acked within the last `idleMs`. At
 * most 1,000 ids. XAUTOCLAIM is not used because it does not tell from which consumer it takes an entry: a living
 * consumer keeps its entries, even when it failed to touch them.
 */
export async function claim(redis: Redis, a: GroupAddress, idleMs: number, ids: readonly string[]): Promise<Claimed> {
  if (ids.length === 0) return { entries: [], phantoms: [] }
  const args = [a.group, a.consumer, String(idleMs), ...ids]
  const [entries, phantoms] = (await classified(runScript(redis, scripts.claim, [a.stream], args))) as [
    EntryReply[],
    string[],
  ]
  return { entries: entries.map(toEntry), phantoms }
}

/**
 * Tells the group that these entries are still being worked on. This is not a delivery, and takes no entry away: a
 * consumer that took over one of them has touched it within `idleMs`, and such an entry is left alone.
 */
export async function touch(redis: Redis, a: GroupAddress, idleMs: number, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await classified(redis.xClaimJustId(a.stream, a.group, a.consumer, idleMs, [...ids]))
}

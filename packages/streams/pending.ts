/** What a group has handed out and not got back: who holds it, since when, and how it changes hands. */
import { classified, type Redis } from './connection.ts'
import { toEntry, type Entry, type EntryReply, type GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

export interface PendingEntry {
  id: string
  consumer: string
  /** Since it was handed out, or last touched. */
  idleMs: number
  /** How often it was handed out. */
  deliveries: number
}

export interface PendingQuery {
  /** Only what was not touched for this long. */
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
  /** Pending ids whose entry was deleted. They are pending no more. */
  phantoms: string[]
}

/**
 * Makes entries ours, as a new delivery, unless somebody touched or acked them within the last `idleMs`. At most 1,000 ids.
 * Not XAUTOCLAIM, which does not tell from whom it takes: a living consumer keeps its entries even where it failed to touch them.
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
 * Tells the group that these entries are still being worked on. It is no delivery, and takes nothing from anybody: whoever took them over
 * from us has touched them within `idleMs`.
 */
export async function touch(redis: Redis, a: GroupAddress, idleMs: number, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  await classified(redis.xClaimJustId(a.stream, a.group, a.consumer, idleMs, [...ids]))
}

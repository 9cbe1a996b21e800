/**
 * Notifications of deleted records, in collections that notify of deletions (`deletionNotifications`): those of a
 * record's life, and those of its deletion. They are those of the record's last version, in whatever order its versions
 * and its deletions arrive. `past_fact` tells which version was the last one.
 */
import type { Notification } from '@sluice/collections/record.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { isGap } from './cut-facts.ts'
import type { NotificationBatch } from './notify.ts'
import type { Ended } from './version.ts'

interface Told {
  id: string
  recordUri: string
  recordCid: string
  did: string
  reason: string
  sortAt: string
}

/** What is known of the ended versions of a record: when the first and the last one began. */
interface Known {
  uri: string
  first: string
  last: string
}

/** Adds the notifications that are not there yet, and deletes those of earlier versions. */
export async function notifyOfDeletions(
  tx: Transaction,
  ended: readonly Ended[],
  notices: NotificationBatch,
): Promise<void> {
  if (ended.length === 0) return
  const uris = ended.map(({ entry }) => entry.uri)
  const [told, alive, known] = await Promise.all([
    tx.query<Told>(TOLD, [uris]),
    tx.query<{ uri: string }>(ALIVE, [uris]),
    tx.query<Known>(KNOWN, [uris]),
  ])
  const toldOf = Map.groupBy(told.rows, ({ recordUri }) => recordUri)
  const living = new Set(alive.rows.map(({ uri }) => uri))
  const knownOf = new Map(known.rows.map((row) => [row.uri, row]))
  const withdrawn: string[] = []
  for (const version of newestOf(ended)) {
    const { plugin, entry } = version
    if (living.has(entry.uri)) continue
    const { missing, outdated } = compare(version, knownOf.get(entry.uri), toldOf.get(entry.uri) ?? [])
    notices.add(plugin, entry, missing)
    withdrawn.push(...outdated.map(({ id }) => id))
  }
  if (withdrawn.length > 0) void tx.query(WITHDRAW, [withdrawn])
}

/**
 * The notifications of this version that are missing, and those of earlier versions. Where no earlier version is
 * remembered, what is there stays: it is of this one, or of one that was forgotten (`sluice prune --facts`).
 */
function compare(
  { entry, since, notifications }: Ended,
  { first, last } = { first: since, last: since },
  told: readonly Told[],
): { missing: Notification[]; outdated: Told[] } {
  const isFollowing = last === since && first < since
  const isSame = (row: Told, { did, reason, sortAt = entry.sortAt }: Notification): boolean =>
    row.reason === reason && (!isFollowing || (row.recordCid === entry.cid && row.did === did && row.sortAt === sortAt))
  return {
    missing: notifications.filter((notification) => !told.some((row) => isSame(row, notification))),
    outdated: isFollowing ? told.filter((row) => !notifications.some((each) => isSame(row, each))) : [],
  }
}

/**
 * The last version of each record that ended. A batch may bring several versions, and the index may have held one
 * before them. If the last version came with an export and only repeats the earlier one, the earlier one counts.
 */
function newestOf(ended: readonly Ended[]): Iterable<Ended> {
  const newest = new Map<string, Ended>()
  for (const one of ended) {
    const seen = newest.get(one.entry.uri)
    if (!seen) {
      newest.set(one.entry.uri, one)
      continue
    }
    const [earlier, later] = seen.version.rev < one.version.rev ? [seen, one] : [one, seen]
    const isRepeated = later.version.fromExport && later.entry.cid === earlier.entry.cid
    newest.set(one.entry.uri, isRepeated ? { ...earlier, since: later.since } : later)
  }
  return newest.values()
}

/** Asked after the batch's records are written: a record that ended and was written anew is alive. */
const ALIVE = { name: 'alive', text: `select uri from record where uri = any($1::text[])` }

const TOLD = {
  name: 'told',
  text: `select id, "recordUri", "recordCid", did, reason, "sortAt" from notification where "recordUri" = any($1::text[])`,
}

/** Reads two facts of each record, however many there are. */
const KNOWN = {
  name: 'ended-versions',
  text: `
    select asked.uri, first.since as first, last.since as last from (select distinct uri from unnest($1::text[]) as asked (uri)) asked
    cross join lateral (
      select since from past_fact past where past.uri = asked.uri and not (${isGap('past')}) order by since limit 1
    ) first
    cross join lateral (
      select since from past_fact past where past.uri = asked.uri and not (${isGap('past')}) order by since desc limit 1
    ) last`,
}

const WITHDRAW = { name: 'withdraw', text: `delete from notification where id = any($1::bigint[])` }

/**
 * What a batch writes while loading: records, tombstones, facts, the rows of each record, and notifications that follow
 * from the record alone. It leaves out duplicates, counters, verdicts on posts, and notifications of posts. The
 * decisions are those of every batch, so any order of arrival still ends in the same records.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Decisions } from '../decide.ts'
import { Deltas } from '../deltas.ts'
import { insertRows, writeRecords } from '../insert.ts'
import type { Place } from '../mutes.ts'
import { NotificationBatch } from '../notify.ts'
import { rememberEnded, rememberFacts } from '../remember.ts'
import { goingOf, removeRows } from '../remove.ts'
import { writtenOf, type Past } from '../version.ts'

/**
 * Writes what was decided for a batch, in its transaction.
 * @param folded versions that later versions of the same batch supersede
 */
export async function writeLoading(
  tx: Transaction,
  collections: CollectionSet,
  decided: Decisions,
  folded: readonly Past[],
): Promise<Place[]> {
  const ended = await rememberFacts(tx, collections, decided, folded)
  // Nothing has been counted yet, so the changes of counters are dropped.
  await removeRows(tx, collections, goingOf([...decided.removed, ...decided.replaced], folded), new Deltas())
  writeRecords(tx, decided)
  const notices = new NotificationBatch()
  await rememberEnded(tx, ended, notices)
  const news = Map.groupBy([...decided.fresh, ...decided.replaced], ({ collection }) => collection)
  for (const plugin of collections.plugins) {
    const ofPlugin = (news.get(plugin.nsid) ?? []).flatMap(writtenOf)
    const rows = Map.groupBy(
      ofPlugin.flatMap((w) => w.rows),
      (row) => row.table,
    )
    for (const [table, ofTable] of rows) insertRows(tx, table, ofTable)
    if (!plugin.derive) for (const { entry } of ofPlugin) notices.add(plugin, entry, plugin.notifications(entry))
  }
  return await notices.flush(tx)
}

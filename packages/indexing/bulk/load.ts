/**
 * What a batch writes while loading: records, tombstones, memories, the rows of each record, and notifications that follow from the record alone. Not yet:
 * duplicates, counters, verdicts on posts and who hears of them. The decisions are those of every batch, so any order of arrival
 * still ends in the same records.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Written } from '@sluice/collections/define.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Decisions } from '../decide.ts'
import { Deltas } from '../deltas.ts'
import { insertRows, writeRecords } from '../insert.ts'
import { Notices } from '../notify.ts'
import { rememberEnded, rememberFacts } from '../remember.ts'
import { removeRows } from '../remove.ts'
import type { Past } from '../version.ts'

/** Writes what was decided for a batch, in its transaction. @param folded versions that others of the same batch supersede */
export async function writeLoading(
  tx: Transaction,
  collections: CollectionSet,
  decided: Decisions,
  folded: readonly Past[],
): Promise<void> {
  const ended = await rememberFacts(tx, collections, decided, folded)
  const going = [...decided.removed, ...decided.replaced].map(({ uri, time, content }) => ({
    uri,
    at: time,
    deleted: !content,
  }))
  // Nothing has been counted yet.
  await removeRows(tx, collections, going, new Deltas())
  writeRecords(tx, decided)
  const notices = new Notices()
  await rememberEnded(tx, ended, notices)
  const written = [...decided.fresh, ...decided.replaced].flatMap(({ content }): (Written & { nsid: string })[] => {
    const indexed = content?.indexed
    return indexed
      ? [{ nsid: indexed.plugin.nsid, entry: indexed.entry, rows: indexed.plugin.rows(indexed.entry) }]
      : []
  })
  const byCollection = Map.groupBy(written, ({ nsid }) => nsid)
  for (const plugin of collections.plugins) {
    const ofPlugin = byCollection.get(plugin.nsid) ?? []
    const rows = Map.groupBy(
      ofPlugin.flatMap((w) => w.rows),
      (row) => row.table,
    )
    for (const [table, ofTable] of rows) insertRows(tx, table, ofTable)
    if (!plugin.derive) for (const { entry } of ofPlugin) notices.add(plugin, entry, plugin.notifications(entry))
  }
  await notices.flush(tx)
}

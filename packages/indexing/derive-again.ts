/**
 * Derives records again: their derived columns, counters and notifications, from what the index says now. Each record's
 * row is locked first, so whoever derives it last has seen everything before. A row that does not change is not
 * written.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri, type Collection } from '@sluice/collections/define.ts'
import type { Entry, Written } from '@sluice/collections/record.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { Deltas } from './deltas.ts'
import { loadEntries } from './entry.ts'
import { NotificationBatch, type NotificationRow } from './notify.ts'
import { sqlOf } from './sql.ts'
import { BEGAN, type Began } from './unseen.ts'

export interface Derived {
  /** `passesOn`: a column changed on which other records depend. */
  changed: { entry: Entry; passesOn: boolean }[]
  unchanged: Entry[]
  /** URIs of records for which there was no room in memory, in parts; each part needs a transaction of its own. */
  rest: string[][]
}

/** Derives these records again. Returns which of them changed. */
export async function deriveAgain(
  tx: Transaction,
  collections: CollectionSet,
  uris: readonly string[],
): Promise<Derived & { began: Began }> {
  const began = tx.query<Began>(BEGAN)
  // Awaited further below. The handler keeps a failure from being an unhandled rejection, as in `apply-batch.ts`.
  began.catch(() => {})
  const all: Derived = { changed: [], unchanged: [], rest: [] }
  const deltas = new Deltas()
  for (const [nsid, ofCollection] of Map.groupBy(uris, collectionOfUri)) {
    const plugin = collections.plugin(nsid)
    if (!plugin?.derive) continue
    const { changed, unchanged, rest } = await deriveCollection(tx, collections, plugin, ofCollection, deltas)
    all.changed.push(...changed)
    all.unchanged.push(...unchanged)
    all.rest.push(...rest)
  }
  deltas.flush(tx)
  return { ...all, began: (await began).rows[0]! }
}

async function deriveCollection(
  tx: Transaction,
  collections: CollectionSet,
  plugin: Collection,
  uris: readonly string[],
  deltas: Deltas,
): Promise<Derived> {
  const [primary] = plugin.tables
  const counters = plugin.counters.filter(({ of }) => of === primary)
  const columns = new Set([primary!.owner, ...plugin.derived, ...counters.map(({ by }) => by)])
  const { rows } = await tx.query<Record<string, unknown>>(
    {
      name: `lock-${primary!.name}`,
      text: `
        select ${[...columns].map((c) => `"${c}"`).join(', ')} from "${primary!.name}" where "${primary!.owner}" = any($1::text[])
        order by "${primary!.owner}" for update`,
    },
    [uris],
  )
  const before = new Map(rows.map((row) => [row[primary!.owner] as string, row]))
  const { entries, rest } = await loadEntries(tx, collections, [...before.keys()])
  const written: Written[] = entries.map(({ entry }) => ({ entry, rows: plugin.rows(entry) }))
  const notifications = (await plugin.derive!(sqlOf(tx), written)) ?? new Map()
  const changed = written.filter(({ entry, rows: [row] }) =>
    differs(plugin.derived, before.get(entry.uri)!, row!.values),
  )
  for (const {
    entry,
    rows: [row],
  } of changed) {
    deltas.add(counters, before.get(entry.uri)!, -1)
    deltas.add(counters, { ...before.get(entry.uri), ...pick(row!.values, plugin.derived) }, 1)
  }
  updateDerived(tx, plugin, changed)
  await renotify(tx, plugin, written, notifications)
  const differing = new Set(changed.map(({ entry }) => entry))
  // Creating or deleting a gate changes only a mark on its post. To judge the 200,000 replies below a post again for
  // that mark took 12 s.
  const passedOn = plugin.passedOn ?? plugin.derived
  const onward = changed.map(({ entry, rows: [row] }) => ({
    entry,
    passesOn: differs(passedOn, before.get(entry.uri)!, row!.values),
  }))
  return { changed: onward, unchanged: written.flatMap(({ entry }) => (differing.has(entry) ? [] : [entry])), rest }
}

/** Whether a column differs. Null and false count as equal: both mean that no rule is broken. */
function differs(columns: readonly string[], before: Record<string, unknown>, after: Record<string, unknown>): boolean {
  return columns.some((column) => (before[column] ?? false) !== (after[column] ?? false))
}

function updateDerived(tx: Transaction, { tables: [primary], derived }: Collection, changed: readonly Written[]): void {
  if (changed.length === 0) return
  const names = derived.map((column) => `"${column}"`)
  void tx.query(
    {
      name: `rederive-${primary!.name}`,
      text: `
        update "${primary!.name}" set ${names.map((name) => `${name} = news.${name}`).join(', ')}
        from unnest($1::text[], ${names.map((_, i) => `$${i + 2}::boolean[]`).join(', ')}) as news (uri, ${names.join(', ')})
        where ${keyed(`"${primary!.name}"."${primary!.owner}"`, 'news.uri')}`,
    },
    [
      changed.map(({ entry }) => entry.uri),
      ...derived.map((column) => changed.map(({ rows }) => rows[0]!.values[column] ?? null)),
    ],
  )
}

/** Adds the notifications that these records should have and deletes those that they should not. Touches no others. */
async function renotify(
  tx: Transaction,
  plugin: Collection,
  written: readonly Written[],
  wanted: ReadonlyMap<string, ReturnType<Collection['notifications']>>,
): Promise<void> {
  const stored = await tx.query<NotificationRow & { id: number }>(STORED, [written.map(({ entry }) => entry.uri)])
  const notices = new NotificationBatch()
  const unwanted: number[] = []
  const storedOf = Map.groupBy(stored.rows, (row) => row.recordUri)
  for (const { entry } of written) {
    const want = wanted.get(entry.uri) ?? plugin.notifications(entry)
    const have = storedOf.get(entry.uri) ?? []
    const same = (a: (typeof want)[number], b: NotificationRow): boolean =>
      a.did === b.did && a.reason === b.reason && a.reasonSubject === b.reasonSubject
    unwanted.push(...have.filter((row) => !want.some((w) => same(w, row))).map(({ id }) => id))
    notices.add(
      plugin,
      entry,
      want.filter((w) => !have.some((row) => same(w, row))),
    )
  }
  if (unwanted.length > 0)
    void tx.query({ name: 'unnotify', text: `delete from notification where id = any($1::bigint[])` }, [unwanted])
  await notices.flush(tx)
}

const STORED = {
  name: 'stored-notifications',
  text: `
    select id, did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt" from (
      select id, did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt"
      from notification where "recordUri" = any($1::text[]) offset 0
    ) stored order by id`,
}

function pick(values: Record<string, unknown>, columns: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(columns.map((column) => [column, values[column]]))
}

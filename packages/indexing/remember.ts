/**
 * What stays of versions that are no longer in force: facts for posts that arrive late, places in a thread,
 * notifications of deletions. The same stays whether a version was in the index when it ended, was superseded within
 * its batch, or arrives after its end. So the order of arrival leaves no trace.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import { isOfRev, type Statement } from '@sluice/collections/depends.ts'
import type { Table } from '@sluice/collections/record.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { cutFacts, isGap, isVersion, type Gap } from './cut-facts.ts'
import type { Decisions } from './decide.ts'
import { eachEntry, type Loaded } from './entry.ts'
import { FactWriter } from './facts.ts'
import { notifyOfDeletions } from './notify-of-deletions.ts'
import type { NotificationBatch } from './notify.ts'
import type { Ended, Past, Version } from './version.ts'

/** Deletions that are no longer the newest version of their path: they leave no tombstone, or may leave none. */
function findGaps(collections: CollectionSet, decisions: Decisions, folded: readonly Past[]): Gap[] {
  return [...folded, ...decisions.past].flatMap(({ version: { uri, did, rev, collection, content } }) =>
    !content && collections.plugin(collection)?.remembers ? [{ uri, did, rev }] : [],
  )
}

/**
 * Writes the facts of the versions that ended. Returns what else stays of them. Must run before their records are
 * removed.
 */
export async function rememberFacts(
  tx: Transaction,
  collections: CollectionSet,
  decisions: Decisions,
  folded: readonly Past[],
): Promise<Ended[]> {
  const gaps = findGaps(collections, decisions, folded)
  if (gaps.length > 0) void tx.query(REMEMBER_GAPS, columnsOf(gaps))
  const facts = new FactWriter(tx, 'late')
  const all: Ended[] = []
  /** Paths of which a version arrives late. In the natural order there are none. */
  const late = new Set<string>()
  for (const past of [...folded, ...decisions.past]) {
    const indexed = past.version.content?.indexed
    if (!indexed || !matters(indexed.plugin)) continue
    late.add(past.version.uri)
    all.push(await ended(past, indexed, facts, past.version.fromExport ? past.version.rev : ''))
  }
  // These facts go before those of versions that the index held: the index knows better when its own versions ended.
  void facts.flush()
  const held = new FactWriter(tx, 'held')
  const successors = successorsOf(collections, decisions)
  for await (const loaded of eachEntry(tx, collections, [...successors.keys()])) {
    const { uri, did, rev, cid, indexedAt: time } = loaded.entry
    const next = successors.get(uri)!
    // The export repeats a row of another indexer, so the version goes on. A fact written now would have the same
    // beginning as the fact of its true end, and would hide that one.
    if (rev === '' && next.fromExport && next.content?.cid === cid) continue
    const version = { uri, did, collection: next.collection, rev, time, fromExport: true }
    all.push(await ended({ version, until: next.rev, endedAt: next.time, deleted: !next.content }, loaded, held))
  }
  void held.flush()
  const lateOnes = all.filter(({ version }) => late.has(version.uri))
  cutFacts(tx, {
    gaps,
    versions: lateOnes
      .filter(({ ends }) => ends)
      .map(({ entry: { uri, cid, live }, since }) => ({ uri, since, own: live ? cid : null })),
    exported: lateOnes
      .filter(({ version, ends }) => version.fromExport && !ends)
      .map(({ version: { uri, did, rev }, since }) => ({ uri, did, rev, since })),
  })
  return all
}

/** By URI, the versions that replace or delete stored ones, in collections of which something stays. */
function successorsOf(collections: CollectionSet, decisions: Decisions): Map<string, Version> {
  const successors = new Map<string, Version>()
  for (const version of [...decisions.removed, ...decisions.replaced]) {
    const plugin = collections.plugin(version.collection)
    if (plugin && matters(plugin)) successors.set(version.uri, version)
  }
  return successors
}

/**
 * Adds the fact of a version, and returns what else stays of it.
 * @param head the head of the export that brought the version after its end
 */
async function ended(past: Past, { entry, plugin }: Loaded, facts: FactWriter, head = ''): Promise<Ended> {
  const { record: _, ...rest } = entry
  const fact = plugin.remembers?.(entry)
  if (fact && fact.since < past.until) await facts.add(past, fact, head)
  const outlives = plugin.tables.some((table) => table.outlives)
  const notifiesOfDeletion = past.deleted && plugin.deletionNotifications !== undefined
  const ofDeletion = notifiesOfDeletion
    ? plugin.deletionNotifications!(entry).map((notification) => ({ ...notification, sortAt: past.endedAt }))
    : []
  return {
    ...past,
    plugin,
    entry: rest,
    since: fact?.since ?? past.version.rev,
    ends: fact !== undefined && isOfRev(fact),
    places: outlives ? plugin.rows(entry).filter(({ table }) => table.outlives) : [],
    notifications: notifiesOfDeletion ? [...plugin.notifications(entry), ...ofDeletion] : [],
  }
}

function matters({ remembers, deletionNotifications, tables }: Collection): boolean {
  return remembers !== undefined || deletionNotifications !== undefined || tables.some((table) => table.outlives)
}

/**
 * Writes what else stays. Must run after the batch's records are written. Nothing may remove notifications of the same
 * records after this.
 */
export async function rememberEnded(
  tx: Transaction,
  ended: readonly Ended[],
  notices: NotificationBatch,
): Promise<void> {
  keepPlaces(tx, ended)
  await notifyOfDeletions(
    tx,
    ended.filter((e) => e.deleted && e.plugin.deletionNotifications),
    notices,
  )
}

function columnsOf(gaps: readonly Gap[]): string[][] {
  return [gaps.map(({ uri }) => uri), gaps.map(({ did }) => did), gaps.map(({ rev }) => rev)]
}

/**
 * A gap is a fact without content. It has no duration either, unless it shows that a relation ended earlier than was
 * thought. Then it goes on until that relation was thought to have ended: something was there by then, whose own commit
 * is still to come, and which goes on as long (`facts.ts`).
 */
const REMEMBER_GAPS = {
  name: 'remember-gaps',
  text: `
    insert into past_fact (uri, did, key, since, until, fact)
    select distinct uri, did, 'gap', rev, greatest(rev, (
      select before.until from (
        select until, key, fact from past_fact past where past.uri = gap.uri and past.since < gap.rev order by since desc limit 1
      ) before where ${isGap('before')} or ${isVersion('before')}
    )), 'null'::jsonb from unnest($1::text[], $2::text[], $3::text[]) as gap (uri, did, rev)
    on conflict (uri, since) do nothing`,
}

/** Writes the rows that outlive their records. Must run after the facts of the same versions are written. */
function keepPlaces(tx: Transaction, ended: readonly Ended[]): void {
  const rows = ended.flatMap(({ places, since, endedAt }) => places.map((place) => ({ ...place, since, endedAt })))
  for (const [table, ofTable] of Map.groupBy(rows, (row) => row.table)) {
    const values = Object.keys(table.columns).map((column) => ofTable.map((row) => row.values[column]))
    const [begins, ends] = [ofTable.map((row) => row.since), ofTable.map((row) => row.endedAt)]
    void tx.query(keepStatement(table, table.outlives!), [...values, begins, ends])
  }
}

/**
 * A row may end several times: its last end counts, and the columns of its newest version. A row whose record lives is
 * left alone. `past_fact` tells whether the stored row is of a newer version than one that arrives late.
 */
function keepStatement({ name, columns, owner }: Table, { deletedAt, key }: NonNullable<Table['outlives']>): Statement {
  const names = Object.keys(columns).map(quoted)
  const [keys, end] = [key.map(quoted), quoted(deletedAt)]
  const others = names.filter((column) => !keys.includes(column))
  const said = names.map((column) =>
    others.includes(column)
      ? `case when newer.${end} is null then ended.${column} else newer.${column} end`
      : `ended.${column}`,
  )
  return {
    name: `keep-${name}`,
    text: `
      insert into ${quoted(name)} as held (${names.join(', ')}, ${end})
      select ${said.join(', ')}, ended.at
      from (
        select distinct on (${keys.join(', ')}) ${names.join(', ')}, since, max(at) over (partition by ${keys.join(', ')}) as at
        from unnest(${[...names, 'since', 'at'].map((_, i) => `$${i + 1}::text[]`).join(', ')}) as version (${names.join(', ')}, since, at)
        order by ${keys.join(', ')}, since desc
      ) ended
      left join lateral (
        select ${[...names, end].join(', ')} from ${quoted(name)} as newer where ${keys.map((column) => `newer.${column} = ended.${column}`).join(' and ')}
          and (
            select true from past_fact later where later.uri = ended.${quoted(owner)} and later.since > ended.since and not (${isGap('later')}) limit 1
          ) offset 0
      ) newer on true
      on conflict (${keys.join(', ')}) do update set ${[
        `${end} = greatest(held.${end}, excluded.${end})`,
        ...others.map((column) => `${column} = excluded.${column}`),
      ].join(', ')} where held.${end} is not null`,
  }
}

function quoted(identifier: string): string {
  return `"${identifier}"`
}

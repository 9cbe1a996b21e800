/**
 * What stays of versions that are no longer in force: facts for posts that arrive late, places in a thread, farewells. The same whether a version was in
 * the index when it ended, was superseded within its batch, or arrives after its end. So the order of arrival leaves no trace.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection, Entry, Fact, Notification, Row, Statement, Table } from '@sluice/collections/define.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Decisions } from './decide.ts'
import { mapEntries, type Loaded } from './entry.ts'
import type { Notices } from './notify.ts'
import type { Past, Version } from './version.ts'

/** What stays of a version, without its record: what a few small deletions name may be more than memory holds. */
interface Ended extends Past {
  plugin: Collection
  entry: Omit<Entry, 'record'>
  fact: Fact | undefined
  /** Its rows in tables that outlive their records. */
  places: Row[]
  /** What was to be told of its life, and what is of its end. */
  told: Notification[]
}

/** A path was emptied at this rev. A version of before that arrives even later ended there, and not when the next one began. */
interface Gap {
  uri: string
  did: string
  rev: string
}

/** Deletions that leave no tombstone, because the record was written anew since. */
export function findGaps(collections: CollectionSet, decisions: Decisions, folded: readonly Past[]): Gap[] {
  return [...folded, ...decisions.past].flatMap(({ version: { uri, did, rev, collection, content } }) =>
    !content && collections.plugin(collection)?.remembers ? [{ uri, did, rev }] : [],
  )
}

/** The ended versions that matter to their collections. Must run before their records are removed. */
export async function findEnded(
  tx: Transaction,
  collections: CollectionSet,
  decisions: Decisions,
  folded: readonly Past[],
): Promise<Ended[]> {
  const arrived = [...folded, ...decisions.past].flatMap((past): Ended[] => {
    const indexed = past.version.content?.indexed
    return indexed && matters(indexed.plugin) ? [ended(past, indexed)] : []
  })
  const going = new Map<string, Version>()
  for (const version of [...decisions.removed, ...decisions.replaced]) {
    const plugin = collections.plugin(version.collection)
    if (plugin && matters(plugin)) going.set(version.uri, version)
  }
  if (going.size === 0) return arrived
  const stored = await mapEntries(tx, collections, [...going.keys()], (loaded): Ended => {
    const { uri, did, rev, indexedAt: time } = loaded.entry
    const next = going.get(uri)!
    const version = { uri, did, collection: next.collection, rev, time, fromExport: true }
    return ended({ version, until: next.rev, endedAt: next.time, deleted: !next.content }, loaded)
  })
  return [...arrived, ...stored]
}

function ended(past: Past, { entry, plugin }: Loaded): Ended {
  const { record: _, ...rest } = entry
  const outlives = plugin.tables.some((table) => table.outlives)
  const says = past.deleted && plugin.farewells !== undefined
  const farewells = says ? plugin.farewells!(entry).map((told) => ({ ...told, sortAt: past.endedAt })) : []
  return {
    ...past,
    plugin,
    entry: rest,
    fact: plugin.remembers?.(entry),
    places: outlives ? plugin.rows(entry).filter(({ table }) => table.outlives) : [],
    told: says ? [...plugin.notifications(entry), ...farewells] : [],
  }
}

function matters({ remembers, farewells, tables }: Collection): boolean {
  return remembers !== undefined || farewells !== undefined || tables.some((table) => table.outlives)
}

/** Writes what stays. Notices of the same records must not be removed after this. */
export async function rememberEnded(
  tx: Transaction,
  ended: readonly Ended[],
  gaps: readonly Gap[],
  notices: Notices,
): Promise<void> {
  if (gaps.length > 0) void tx.query(REMEMBER_GAPS, columnsOf(gaps))
  const facts = ended.flatMap(({ fact, until, version }) =>
    fact && fact.since < until ? [{ uri: version.uri, did: version.did, until, ...fact }] : [],
  )
  if (facts.length > 0) {
    void tx.query(REMEMBER, [
      facts.map((f) => f.uri),
      facts.map((f) => f.did),
      facts.map((f) => f.key),
      facts.map((f) => f.since),
      facts.map((f) => f.until),
      facts.map((f) => JSON.stringify(f.fact)),
    ])
  }
  if (gaps.length > 0) void tx.query(CUT_AT_GAPS, [gaps.map(({ uri }) => uri), gaps.map(({ rev }) => rev)])
  keepPlaces(tx, ended)
  await sayFarewell(
    tx,
    ended.filter((e) => e.deleted && e.plugin.farewells),
    notices,
  )
}

function columnsOf(gaps: readonly Gap[]): string[][] {
  return [gaps.map(({ uri }) => uri), gaps.map(({ did }) => did), gaps.map(({ rev }) => rev)]
}

/** A gap is a fact of no length about nothing. */
const REMEMBER_GAPS = {
  name: 'remember-gaps',
  text: `
    insert into past_fact (uri, did, key, since, until, fact)
    select distinct uri, did, 'gap', rev, rev, 'null'::jsonb from unnest($1::text[], $2::text[], $3::text[]) as gap (uri, did, rev)
    on conflict (uri, since) do nothing`,
}

/** In words that no index knows: gaps are found by their path. All have the same key, and where the planner has not met it, it would go through all there are. */
const isGap = (row: string): string => `${row}.key || '' = 'gap'`

/**
 * These gaps alone, and of each only what began after the gap before it: whatever began earlier was cut there, when that gap or the fact was written. The
 * path's facts times its gaps took 19 s for each creation once a path had been emptied and written anew 10,000 times.
 */
const CUT_AT_GAPS = {
  name: 'cut-at-gaps',
  text: `
    with cut as materialized (
      select held.uri, held.since, gap.since as until
      from (select distinct uri, rev from unnest($1::text[], $2::text[]) as news (uri, rev)) news
      join past_fact gap on gap.uri = news.uri and gap.since = news.rev and ${isGap('gap')}
      cross join lateral (
        select coalesce(max(since), '') as since from past_fact past
        where past.uri = gap.uri and past.since < gap.since and ${isGap('past')} offset 0
      ) before
      cross join lateral (
        select uri, since from past_fact past
        where past.uri = gap.uri and past.since >= before.since and past.since < gap.since and past.until > gap.since offset 0
      ) held
    )
    update past_fact as held set until = cut.until from cut where held.uri = cut.uri and held.since = cut.since`,
}

const REMEMBER = {
  name: 'remember',
  text: `
    insert into past_fact as held (uri, did, key, since, until, fact)
    select distinct on (uri, since) uri, did, key, since, least(until, (
      select min(gap.since) from past_fact gap where gap.uri = ended.uri and gap.since > ended.since and gap.since < ended.until and ${isGap('gap')}
    )), fact::jsonb
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
      as ended (uri, did, key, since, until, fact)
    order by uri, since, until
    on conflict (uri, since) do update set until = least(held.until, excluded.until)`,
}

/** Rows of tables that outlive their records. */
function keepPlaces(tx: Transaction, ended: readonly Ended[]): void {
  const rows = ended.flatMap(({ places, endedAt }) => places.map((place) => ({ ...place, endedAt })))
  for (const [table, ofTable] of Map.groupBy(rows, (row) => row.table)) {
    const values = Object.keys(table.columns).map((column) => ofTable.map((row) => row.values[column]))
    void tx.query(keepStatement(table, table.outlives!), [...values, ofTable.map((row) => row.endedAt)])
  }
}

/** Of several ends of one row the last counts; a row whose record lives is left alone. */
function keepStatement({ name, columns }: Table, { deletedAt, key }: NonNullable<Table['outlives']>): Statement {
  const names = Object.keys(columns).map(quoted)
  const [keys, end] = [key.map(quoted).join(', '), quoted(deletedAt)]
  return {
    name: `keep-${name}`,
    text: `
      insert into ${quoted(name)} as held (${names.join(', ')}, ${end})
      select distinct on (${keys}) * from unnest(${[...names, end].map((_, i) => `$${i + 1}::text[]`).join(', ')})
        as ended (${names.join(', ')}, at)
      order by ${keys}, at desc
      on conflict (${keys}) do update set ${end} = greatest(held.${end}, excluded.${end}) where held.${end} is not null`,
  }
}

function quoted(identifier: string): string {
  return `"${identifier}"`
}

/** Each of a deleted record's notifications stands once: those of its life and its farewell. */
async function sayFarewell(tx: Transaction, ended: readonly Ended[], notices: Notices): Promise<void> {
  if (ended.length === 0) return
  const uris = ended.map(({ entry }) => entry.uri)
  const [alreadyTold, alive] = await Promise.all([
    tx.query<{ recordUri: string; reason: string }>(TOLD, [uris]),
    tx.query<{ uri: string }>(ALIVE, [uris]),
  ])
  const told = new Set(alreadyTold.rows.map(({ recordUri, reason }) => `${recordUri} ${reason}`))
  const living = new Set(alive.rows.map(({ uri }) => uri))
  for (const { plugin, entry, told: all } of new Map(ended.map((e) => [e.entry.uri, e])).values()) {
    if (living.has(entry.uri)) continue
    const untold = all.filter(({ reason }) => !told.has(`${entry.uri} ${reason}`))
    notices.add(plugin, entry, untold)
  }
}

/** Asked after the batch's records are written: one that ended and was written anew is not gone. */
const ALIVE = { name: 'alive', text: `select uri from record where uri = any($1::text[])` }

const TOLD = {
  name: 'told',
  text: `select "recordUri", reason from notification where "recordUri" = any($1::text[])`,
}

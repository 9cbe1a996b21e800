/**
 * Duplicates: several records of an account can say the same (two likes of one post). One of them has rows. The others
 * wait in `duplicate_record`, and one of them takes over when the first is gone.
 *
 * The rule: the record with the lowest URI has the rows. Record keys are TIDs, so it is the one that was made first,
 * and the rule does not depend on the order of arrival: a lower URI that arrives late takes the rows over. All
 * contenders belong to one account, which the batch owns.
 */
import type { Transaction } from '@sluice/database/transaction.ts'
import { oneOfKey } from '@sluice/collections/by-key.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { Statement } from '@sluice/collections/depends.ts'
import type { Entry, Notification, Row, Written } from '@sluice/collections/record.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { mapEntries } from './entry.ts'
import type { RemovedRow } from './remove.ts'

/**
 * A record that waited and now takes over. Its notifications are made together with its rows, and the record itself is
 * dropped: a deletion of a few bytes can promote a record of a megabyte.
 */
export interface Heir {
  entry: Omit<Entry, 'record'>
  rows: Row[]
  notifications: Notification[]
}

export interface Contest {
  /** New records that get rows. */
  winners: Written[]
  /** Waiting records that get rows. */
  heirs: Heir[]
  /** Records whose rows must go, because a record with a lower URI arrived. */
  dethroned: string[]
  /** Records that must wait, and for which record each waits. */
  waiting: { uri: string; cid: string; duplicateOf: string; indexedAt: string }[]
  /** Records that wait no longer. */
  promoted: string[]
  /** Records that wait for `from` now wait for `to`. */
  repointed: { from: string; to: string }[]
}

/** The contest in which no records compete. */
export const NO_CONTEST: Readonly<Contest> = {
  winners: [],
  heirs: [],
  dethroned: [],
  waiting: [],
  promoted: [],
  repointed: [],
}

/** Decides which records of a collection have rows, given the new records and the rows just removed. */
export async function contend(
  tx: Transaction,
  collections: CollectionSet,
  plugin: Collection,
  news: readonly Written[],
  removed: readonly RemovedRow[],
): Promise<Contest> {
  const contest: Contest = { winners: [], heirs: [], dethroned: [], waiting: [], promoted: [], repointed: [] }
  const contenders = news.filter((written) => {
    if (written.rows[0]?.table === plugin.tables[0]) return true
    contest.winners.push(written)
    return false
  })
  const vacated = new Map(removed.map((row) => [row.uri, keyOf(plugin, row.values)]))
  const byKey = Map.groupBy(contenders, ({ rows }) => keyOf(plugin, rows[0]!.values))
  const [holders, waiting] = await Promise.all([
    findHolders(
      tx,
      plugin,
      [...byKey.values()].map(([first]) => first!.rows[0]!.values),
    ),
    findWaiting(tx, [...vacated.keys()]),
  ])
  const waitingByKey = Map.groupBy(waiting, ({ duplicateOf }) => vacated.get(duplicateOf)!)
  const promotable: { uri: string; losers: string[] }[] = []
  const decideFor = (key: string, ofKey: Written[]): void => {
    const waits = (waitingByKey.get(key) ?? []).map(({ uri }) => uri)
    const promotion = decideKey(contest, ofKey, holders.get(key) ?? [], waits)
    if (promotion) promotable.push(promotion)
  }
  for (const [key, ofKey] of byKey) {
    if (ofKey.length === 1 && !holders.has(key) && !waitingByKey.has(key)) contest.winners.push(ofKey[0]!)
    else decideFor(key, ofKey)
  }
  for (const key of waitingByKey.keys()) if (!byKey.has(key)) decideFor(key, [])
  await promote(tx, collections, contest, promotable)
  return contest
}

/** Decides one key. Returns the waiting record that takes over, if one does: its rows must be made first. */
function decideKey(
  contest: Contest,
  news: Written[],
  holders: readonly Holder[],
  waits: string[],
): { uri: string; losers: string[] } | undefined {
  const best = lowest([...news.map(({ entry }) => entry.uri), ...waits, ...holders.map(({ uri }) => uri)])
  const winner = news.find(({ entry }) => entry.uri === best)
  if (winner) contest.winners.push(winner)
  for (const { entry } of news) {
    if (entry.uri !== best)
      contest.waiting.push({ uri: entry.uri, cid: entry.cid, duplicateOf: best, indexedAt: entry.indexedAt })
  }
  // There is one holder. While a bulk load is being finished there may be several: its duplicates are not resolved yet.
  for (const holder of holders) {
    if (holder.uri === best) continue
    contest.dethroned.push(holder.uri)
    contest.waiting.push({ ...holder, duplicateOf: best })
    contest.repointed.push({ from: holder.uri, to: best })
  }
  const losers = waits.filter((uri) => uri !== best)
  if (waits.includes(best)) return { uri: best, losers }
  contest.repointed.push(...losers.map((uri) => ({ from: uri, to: best })))
  return undefined
}

async function promote(
  tx: Transaction,
  collections: CollectionSet,
  contest: Contest,
  promotable: readonly { uri: string; losers: string[] }[],
): Promise<void> {
  if (promotable.length === 0) return
  const uris = promotable.map(({ uri }) => uri)
  const heirs = await mapEntries(tx, collections, uris, ({ entry, plugin }): Heir => {
    const { record: _, ...rest } = entry
    return { entry: rest, rows: plugin.rows(entry), notifications: plugin.notifications(entry) }
  })
  contest.heirs.push(...heirs)
  contest.promoted.push(...promotable.map(({ uri }) => uri))
  for (const { uri, losers } of promotable) contest.repointed.push(...losers.map((loser) => ({ from: loser, to: uri })))
}

function keyOf(plugin: Collection, values: Record<string, unknown>): string {
  return plugin.unique.map((column) => values[column]).join('\n')
}

function lowest(uris: readonly string[]): string {
  return uris.reduce((a, b) => (a < b ? a : b))
}

interface Holder {
  uri: string
  cid: string
  indexedAt: string
}

async function findHolders(
  tx: Transaction,
  plugin: Collection,
  keys: readonly Record<string, unknown>[],
): Promise<Map<string, Holder[]>> {
  if (keys.length === 0) return new Map()
  const [primary] = plugin.tables
  const { rows } = await tx.query<Record<string, unknown> & Holder>(
    holdersOf(primary!.name, plugin.unique),
    plugin.unique.map((column) => keys.map((values) => values[column])),
  )
  const byKey = Map.groupBy(rows, (row) => keyOf(plugin, row))
  return new Map(
    [...byKey].map(([key, held]) => [key, held.map(({ uri, cid, indexedAt }) => ({ uri, cid, indexedAt }))]),
  )
}

/**
 * Several rows have the same key only while a bulk load is being finished. Then all of them are read; the tables have
 * just been analyzed, so the planner knows their size.
 */
function holdersOf(table: string, unique: readonly string[]): Statement {
  const columns = unique.map((column) => `"${column}"`)
  const key = Object.fromEntries(columns.map((column) => [`held.${column}`, `key.${column}`]))
  const held = `select held.uri, held.cid, held."indexedAt" from "${table}" as held`
  return {
    name: `holders-${table}`,
    text: `
      select held.uri, held.cid, held."indexedAt", ${columns.map((column) => `key.${column}`).join(', ')}
      from unnest(${columns.map((_, i) => `$${i + 1}::text[]`).join(', ')}) as key (${columns.join(', ')})
      cross join lateral (
        select one.uri, one.cid, one."indexedAt" from (${held} ${oneOfKey(key)}) one where not exists (select from bulk_load)
        union all
        ${held} where ${columns.map((column) => `held.${column} = key.${column}`).join(' and ')} and exists (select from bulk_load)
      ) held`,
  }
}

async function findWaiting(
  tx: Transaction,
  winners: readonly string[],
): Promise<{ uri: string; duplicateOf: string }[]> {
  if (winners.length === 0) return []
  const text = `select uri, "duplicateOf" from duplicate_record where "duplicateOf" = any($1::text[])`
  return (await tx.query<{ uri: string; duplicateOf: string }>({ name: 'waiting', text }, [winners])).rows
}

/** Writes which record waits for which. */
export function writeContest(tx: Transaction, { waiting, promoted, repointed }: Contest): void {
  if (promoted.length > 0) {
    void tx.query({ name: 'promote', text: `delete from duplicate_record where uri = any($1::text[])` }, [promoted])
  }
  if (repointed.length > 0) {
    void tx.query(
      {
        name: 'repoint',
        text: `
          update duplicate_record set "duplicateOf" = moved.winner
          from unnest($1::text[], $2::text[]) as moved (loser, winner)
          where "duplicateOf" = moved.loser or uri = moved.loser`,
      },
      [repointed.map((r) => r.from), repointed.map((r) => r.to)],
    )
  }
  if (waiting.length > 0) {
    void tx.query(
      {
        name: 'wait',
        text: `
          insert into duplicate_record (uri, cid, "duplicateOf", "indexedAt")
          select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
          on conflict (uri) do update set
            cid = excluded.cid, "duplicateOf" = excluded."duplicateOf", "indexedAt" = excluded."indexedAt"`,
      },
      [
        waiting.map((w) => w.uri),
        waiting.map((w) => w.cid),
        waiting.map((w) => w.duplicateOf),
        waiting.map((w) => w.indexedAt),
      ],
    )
  }
}

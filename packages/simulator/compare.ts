/** The index against the truth, table by table, and what the index says of itself against what it holds. */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { wrongCounters } from '@sluice/indexing/testing/recount.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Truth } from './truth.ts'

const PAIR_TABLES: [collection: string, table: string, column: string][] = [
  ['app.bsky.feed.like', 'like', 'subject'],
  ['app.bsky.feed.repost', 'repost', 'subject'],
  ['app.bsky.graph.follow', 'follow', 'subjectDid'],
  ['app.bsky.graph.block', 'actor_block', 'subjectDid'],
]
const LINES = 12

/** Every difference as a line, at most some of each kind; none: the index is right. */
export async function differences(db: DatabasePool, truth: Truth): Promise<string[]> {
  const parts = [
    records(db, truth),
    ownTables(db, truth),
    ...PAIR_TABLES.map((pair) => pairs(db, truth, pair)),
    counters(db, truth),
    notifications(db, truth),
    replies(db, truth),
    labels(db, truth),
    statuses(db, truth),
    wrongCounters(db, new CollectionSet(collections)),
    waitsForEver(db),
  ]
  return (await Promise.all(parts)).flatMap((lines) => {
    return lines.length <= LINES ? lines : [...lines.slice(0, LINES), `… and ${lines.length - LINES} more like these`]
  })
}

async function records(db: DatabasePool, truth: Truth): Promise<string[]> {
  const { rows } = await db.query<{ uri: string; cid: string; json: string }>('select uri, cid, json from record')
  const found = new Map(rows.map(({ uri, cid, json }) => [uri, `${cid} ${ordered(JSON.parse(json))}`]))
  const expected = new Map([...truth.records].map(([uri, { cid, record }]) => [uri, `${cid} ${ordered(record)}`]))
  return mapDifferences('record', expected, found)
}

/** Tables that hold one row for each record. */
async function ownTables(db: DatabasePool, truth: Truth): Promise<string[]> {
  const lines = ['post', 'profile'].map(async (table) => {
    const { rows } = await db.query<{ uri: string; cid: string }>(`select uri, cid from "${table}"`)
    const collection = table === 'post' ? 'app.bsky.feed.post' : 'app.bsky.actor.profile'
    const expected = new Map(truth.of(collection).map(([uri, { cid }]) => [uri, cid]))
    return mapDifferences(table, expected, new Map(rows.map(({ uri, cid }) => [uri, cid])))
  })
  return (await Promise.all(lines)).flat()
}

async function pairs(
  db: DatabasePool,
  truth: Truth,
  [collection, table, column]: [string, string, string],
): Promise<string[]> {
  const { rows } = await db.query<{ pair: string }>(`select creator || ' ' || "${column}" as pair from "${table}"`)
  return listDifferences(
    table,
    [...truth.pairs(collection)],
    rows.map(({ pair }) => pair),
  )
}

async function counters(db: DatabasePool, truth: Truth): Promise<string[]> {
  const lines = Object.entries(truth.counters()).map(async ([name, expected]) => {
    const [table, column] = name.split('.') as [string, string]
    const key = table === 'post_agg' ? 'uri' : 'did'
    const { rows } = await db.query<{ key: string; n: number }>(
      `select "${key}" as key, "${column}"::int as n from "${table}" where "${column}" <> 0`,
    )
    return mapDifferences(name, expected, new Map(rows.map(({ key: of, n }) => [of, n])))
  })
  return (await Promise.all(lines)).flat()
}

async function notifications(db: DatabasePool, truth: Truth): Promise<string[]> {
  const { rows } = await db.query<{ line: string; did: string }>(
    `select did, concat_ws(' ', did, reason, author, coalesce("reasonSubject", '')) as line from notification
     where reason in ('like', 'repost', 'follow')`,
  )
  // What was told to somebody who is gone is of no account.
  const lives = (did: string): boolean => truth.statuses.get(did) !== 'deleted'
  const expected = [...truth.notifications()].filter((line) => lives(line.split(' ')[0]!))
  return listDifferences(
    'notification',
    expected,
    rows.filter(({ did }) => lives(did)).map(({ line }) => line),
  )
}

/** Who is told of replies: the author of a post that lives for certain; nobody twice, and nobody of a reply that is gone. */
async function replies(db: DatabasePool, truth: Truth): Promise<string[]> {
  const { rows } = await db.query<{ line: string; uri: string }>(
    `select did || ' ' || "recordUri" as line, "recordUri" as uri from notification where reason = 'reply'`,
  )
  const found = new Set(rows.map(({ line }) => line))
  return [
    ...[...truth.replies()].filter((line) => !found.has(line)).map((line) => `nobody was told of a reply: ${line}`),
    ...rows.filter(({ uri }) => !truth.records.has(uri)).map(({ line }) => `told of a reply that is gone: ${line}`),
    ...(found.size < rows.length ? [`${rows.length - found.size} notifications of replies are there twice`] : []),
  ]
}

async function labels(db: DatabasePool, truth: Truth): Promise<string[]> {
  const { rows } = await db.query<{ key: string; neg: boolean; cts: string }>(
    `select src || ' ' || uri || ' ' || val as key, neg, cts from label`,
  )
  const line = ({ cts, neg }: { cts: string; neg: boolean }): string => `${cts} ${neg}`
  const expected = new Map([...truth.labels].map(([key, label]) => [key, line(label)]))
  return mapDifferences('label', expected, new Map(rows.map(({ key, ...label }) => [key, line(label)])))
}

async function statuses(db: DatabasePool, truth: Truth): Promise<string[]> {
  const { rows } = await db.query<{ did: string; status: string | null }>(
    'select did, "upstreamStatus" as status from actor',
  )
  const found = new Map(rows.map(({ did, status }) => [did, status]))
  return [...truth.statuses].flatMap(([did, status]) => {
    // An account that is gone is nowhere, or is said to be.
    if (status === 'deleted' && !found.has(did)) return []
    const said = found.get(did)
    return said === (status ?? null) ? [] : [`actor ${did} is ${said}, and should be ${status ?? 'active'}`]
  })
}

/** What waits for ever: a duplicate of nothing, a purge that nobody carries out, a question that nobody asks. */
export async function waitsForEver(db: DatabasePool): Promise<string[]> {
  const { rows } = await db.query<{ line: string }>(
    `select 'account_deletion of ' || did || ' is ' || state as line from account_deletion where state <> 'purged'
     union all select 'account_check of ' || did from account_check where state <> 'asked'
     union all select 'duplicate_record ' || uri || ' is of no record' from duplicate_record d
       where not exists (select from record where record.uri = d.uri)`,
  )
  return rows.map(({ line }) => line)
}

function mapDifferences<T extends string | number>(
  what: string,
  expected: ReadonlyMap<string, T>,
  found: ReadonlyMap<string, T>,
): string[] {
  const lines: string[] = []
  for (const [key, value] of expected) {
    if (!found.has(key)) lines.push(`${what} lacks ${key} (${value})`)
    else if (found.get(key) !== value) lines.push(`${what} ${key} is ${found.get(key)}, and should be ${value}`)
  }
  for (const [key, value] of found)
    if (!expected.has(key)) lines.push(`${what} has ${key} (${value}), which should not be`)
  return lines
}

/** As bags: what is there twice shows. */
function listDifferences(what: string, expected: readonly string[], found: readonly string[]): string[] {
  const counted = (lines: readonly string[]): Map<string, number> => {
    const counts = new Map<string, number>()
    for (const line of lines) counts.set(line, (counts.get(line) ?? 0) + 1)
    return counts
  }
  return mapDifferences(what, counted(expected), counted(found))
}

/** JSON with its keys in order. */
function ordered(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

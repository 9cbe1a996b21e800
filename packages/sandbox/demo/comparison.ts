/**
 * What the PDS holds and what PostgreSQL holds, compared by people who did not index it: every repository is listed through the
 * PDS's own API, every counter is counted again, and labels are those that the labeler said it published.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { Network } from '../network.ts'
import type { Population } from '../population.ts'
import { SCHEMA } from '../template.ts'
import { DATABASE, type Stores } from './stack.ts'

export interface Comparison {
  rows: ComparedRow[]
  /** What is not as it should be, one sentence each; empty when all agrees. */
  differences: string[]
}

export interface ComparedRow {
  what: string
  expected: number
  found: number
}

export async function compare(network: Network, population: Population, stores: Stores): Promise<Comparison> {
  const query = <T extends object>(text: string): Promise<T[]> =>
    stores.postgres.query<T & Record<string, unknown>>(text, [], DATABASE)
  const [records, labels, counters, accounts] = await Promise.all([
    compareRecords(network, population, query),
    compareLabels(population, query),
    recount(query),
    compareAccounts(population, query),
  ])
  const all = [records, accounts, labels, counters]
  return { rows: all.flatMap(({ rows }) => rows), differences: all.flatMap(({ differences }) => differences) }
}

type Query = <T extends object>(text: string) => Promise<T[]>

/** Each record by URI and CID, in both directions. */
async function compareRecords(network: Network, population: Population, query: Query): Promise<Comparison> {
  const set = new CollectionSet(collections)
  const expected = new Map<string, string>()
  for (const { did, agent } of population.people) {
    const { data } = await agent.com.atproto.repo.describeRepo({ repo: did })
    for (const collection of data.collections.filter((nsid) => set.stores(nsid))) {
      for await (const { uri, cid } of listRecords(network.pds.url, did, collection)) expected.set(uri, cid)
    }
  }
  const rows = await query<{ uri: string; cid: string }>(`select uri, cid from ${SCHEMA}.record`)
  const found = new Map(rows.map(({ uri, cid }) => [uri, cid]))
  return tally(expected, found, (uri) => uri.split('/')[3]!)
}

async function* listRecords(
  pds: string,
  did: string,
  collection: string,
): AsyncGenerator<{ uri: string; cid: string }> {
  let cursor: string | undefined
  do {
    const params = new URLSearchParams({ repo: did, collection, limit: '100', ...(cursor && { cursor }) })
    const response = await fetch(`${pds}/xrpc/com.atproto.repo.listRecords?${params.toString()}`)
    if (!response.ok) throw new Error(`listRecords of ${did} answered ${response.status}: ${await response.text()}`)
    const page = (await response.json()) as { cursor?: string; records: { uri: string; cid: string }[] }
    yield* page.records
    cursor = page.records.length > 0 ? page.cursor : undefined
  } while (cursor)
}

async function compareLabels(population: Population, query: Query): Promise<Comparison> {
  const rows = await query<{ uri: string; val: string; neg: boolean; cts: string }>(
    `select uri, val, neg, cts from ${SCHEMA}.label`,
  )
  const expected = new Map([...population.labels].map(([key, { neg, cts }]) => [key, `${neg === true} ${cts}`]))
  const found = new Map(rows.map(({ uri, val, neg, cts }) => [`${uri} ${val}`, `${neg} ${cts}`]))
  return tally(expected, found, () => 'labels')
}

async function compareAccounts(population: Population, query: Query): Promise<Comparison> {
  const rows = await query<{ did: string; handle: string | null }>(
    `select did, handle from ${SCHEMA}.actor where handle is not null`,
  )
  const expected = new Map(population.people.map(({ did, handle }) => [did, handle]))
  return tally(expected, new Map(rows.map(({ did, handle }) => [did, handle!])), () => 'handles')
}

const COUNTED = {
  'likes of a post': counted('post_agg', 'uri', 'likeCount', `select subject from bsky."like"`),
  'reposts of a post': counted('post_agg', 'uri', 'repostCount', `select subject from bsky.repost`),
  'replies to a post': counted(
    'post_agg',
    'uri',
    'replyCount',
    `select "replyParent" from bsky.post where "replyParent" is not null and "violatesThreadGate" is not true`,
  ),
  'quotes of a post': counted('post_agg', 'uri', 'quoteCount', `select subject from bsky.quote`),
  'followers of an account': counted('profile_agg', 'did', 'followersCount', `select "subjectDid" from bsky.follow`),
  'follows of an account': counted('profile_agg', 'did', 'followsCount', `select creator from bsky.follow`),
  'posts of an account': counted('profile_agg', 'did', 'postsCount', `select creator from bsky.post`),
}

/** Rows of a counter, and those of them that a recount does not confirm. */
function counted(table: string, key: string, counter: string, keys: string): string {
  return `
    select count(*)::int as found, count(*) filter (where "${counter}" <> coalesce(n, 0) or "${counter}" is null)::int as wrong
    from (select key, count(*) as n from (${keys}) as source (key) group by key) as recount
    full join bsky.${table} on ${table}.${key} = recount.key`
}

async function recount(query: Query): Promise<Comparison> {
  const rows: ComparedRow[] = []
  const differences: string[] = []
  for (const [what, statement] of Object.entries(COUNTED)) {
    const [result] = await query<{ found: number; wrong: number }>(statement)
    rows.push({ what: `counter: ${what}`, expected: result!.found, found: result!.found - result!.wrong })
    if (result!.wrong > 0) differences.push(`${result!.wrong} counters of ${what} differ from a recount`)
  }
  return { rows, differences }
}

/** Groups by `kindOf` the key, and names what is missing, other or too much. */
function tally(
  expected: ReadonlyMap<string, string>,
  found: ReadonlyMap<string, string>,
  kindOf: (key: string) => string,
): Comparison {
  const kinds = new Map<string, ComparedRow>()
  const row = (key: string): ComparedRow => {
    const what = kindOf(key)
    if (!kinds.has(what)) kinds.set(what, { what, expected: 0, found: 0 })
    return kinds.get(what)!
  }
  const differences: string[] = []
  for (const [key, value] of expected) {
    row(key).expected++
    const theirs = found.get(key)
    if (theirs === value) row(key).found++
    else if (theirs === undefined) differences.push(`${key} is missing in PostgreSQL (expected ${value})`)
    else differences.push(`${key} is ${theirs} in PostgreSQL, expected ${value}`)
  }
  for (const key of found.keys()) {
    if (expected.has(key)) continue
    row(key).found++
    differences.push(`${key} is in PostgreSQL and should not be`)
  }
  return { rows: [...kinds.values()].sort((a, b) => a.what.localeCompare(b.what)), differences }
}

export function renderComparison({ rows, differences }: Comparison): string {
  const lines = rows.map(
    ({ what, expected, found }) =>
      `${what.padEnd(38)}${String(expected).padStart(8)}${String(found).padStart(10)}   ${expected === found ? '✓' : '✗'}`,
  )
  const shown = differences.slice(0, 20).map((difference) => `  ${difference}`)
  if (differences.length > shown.length) shown.push(`  … and ${differences.length - shown.length} more`)
  const verdict = differences.length === 0 ? 'Everything has arrived and agrees.' : `${differences.length} differences:`
  return [`${''.padEnd(38)}${'network'.padStart(8)}${'postgres'.padStart(10)}`, ...lines, '', verdict, ...shown].join(
    '\n',
  )
}

/**
 * What the PDS holds and what PostgreSQL holds, compared by people who did not index it: every repository is listed
 * through the PDS's own API, every counter is counted again, and labels are those that the labeler said it published.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { PublishedLabel } from '../labeler.ts'
import type { Network } from '../network.ts'
import type { Account } from '../pds.ts'
import { SCHEMA } from '../template.ts'

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

/** Who lives on the PDS, and what was said of them. */
export interface Inhabitants {
  people: readonly Pick<Account, 'did' | 'handle'>[]
  /** The newest label of each (uri, val). */
  labels: ReadonlyMap<string, PublishedLabel>
  /**
   * Accounts that the PDS does not show, with what it showed last, CIDs by AT URI: that stays. Their handles are not
   * compared, since one that was not verified before cannot be now.
   */
  away?: ReadonlyMap<string, ReadonlyMap<string, string>>
}

/** A statement in the database that is compared. */
export type Query = <T extends object>(text: string) => Promise<T[]>

export async function compare(
  network: Pick<Network, 'pds'>,
  population: Inhabitants,
  query: Query,
): Promise<Comparison> {
  const [records, labels, counters, accounts] = await Promise.all([
    compareRecords(network, population, query),
    compareLabels(population, query),
    recount(query),
    compareAccounts(population, query),
  ])
  const all = [records, accounts, labels, counters]
  return { rows: all.flatMap(({ rows }) => rows), differences: all.flatMap(({ differences }) => differences) }
}

/** Each record by URI and CID, in both directions. */
async function compareRecords(
  { pds }: Pick<Network, 'pds'>,
  { people, away }: Inhabitants,
  query: Query,
): Promise<Comparison> {
  const expected = new Map<string, string>()
  for (const { did } of people) for (const [uri, cid] of await recordsOf(pds.url, did)) expected.set(uri, cid)
  for (const records of away?.values() ?? []) for (const [uri, cid] of records) expected.set(uri, cid)
  const rows = await query<{ uri: string; cid: string }>(`select uri, cid from ${SCHEMA}.record`)
  const found = new Map(rows.map(({ uri, cid }) => [uri, cid]))
  return tally(expected, found, (uri) => uri.split('/')[3]!)
}

/**
 * What the PDS lists of an account, of the collections that are stored: CIDs by AT URI.
 * @throws Error when it does not show the account
 */
export async function recordsOf(pds: string, did: string): Promise<Map<string, string>> {
  const set = new CollectionSet(collections)
  const found = new Map<string, string>()
  const { collections: held } = await asked<{ collections: string[] }>(pds, 'describeRepo', { repo: did })
  for (const collection of held.filter((nsid) => set.stores(nsid))) {
    for await (const { uri, cid } of listRecords(pds, did, collection)) found.set(uri, cid)
  }
  return found
}

async function* listRecords(
  pds: string,
  did: string,
  collection: string,
): AsyncGenerator<{ uri: string; cid: string }> {
  let cursor: string | undefined
  do {
    const params = { repo: did, collection, limit: '100', ...(cursor && { cursor }) }
    const page = await asked<{ cursor?: string; records: { uri: string; cid: string }[] }>(pds, 'listRecords', params)
    yield* page.records
    cursor = page.records.length > 0 ? page.cursor : undefined
  } while (cursor)
}

async function asked<T>(pds: string, method: string, params: Record<string, string>): Promise<T> {
  const response = await fetch(`${pds}/xrpc/com.atproto.repo.${method}?${new URLSearchParams(params).toString()}`)
  if (!response.ok) throw new Error(`${method} of ${params.repo} answered ${response.status}: ${await response.text()}`)
  return (await response.json()) as T
}

async function compareLabels(population: Inhabitants, query: Query): Promise<Comparison> {
  const rows = await query<{ uri: string; val: string; neg: boolean; cts: string }>(
    `select uri, val, neg, cts from ${SCHEMA}.label`,
  )
  const expected = new Map([...population.labels].map(([key, { neg, cts }]) => [key, `${neg === true} ${cts}`]))
  const found = new Map(rows.map(({ uri, val, neg, cts }) => [`${uri} ${val}`, `${neg} ${cts}`]))
  return tally(expected, found, () => 'labels')
}

async function compareAccounts(population: Inhabitants, query: Query): Promise<Comparison> {
  const rows = await query<{ did: string; handle: string | null }>(
    `select did, handle from ${SCHEMA}.actor where handle is not null`,
  )
  const expected = new Map(population.people.map(({ did, handle }) => [did, handle]))
  const compared = rows.filter(({ did }) => !population.away?.has(did))
  return tally(expected, new Map(compared.map(({ did, handle }) => [did, handle!])), () => 'handles')
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

/**
 * Loads what judging a batch of posts needs, in a handful of statements over the whole batch: living rows, and from `past_fact` what was true and is
 * no more (a deleted parent, an earlier gate, an ended follow).
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Sql, Statement } from '../define.ts'
import { PAST_LEVELS_MAX, type LoadedFacts, type PastPost, type Span } from './facts.ts'
import { followKey, listItemKey, postGateKey, readPostGate, readThreadGate, threadGateKey } from './gates.ts'
import type { Judged } from './judge.ts'
import { claimOfDate, claimOfKey, writtenAt } from './when.ts'

/** Loads the facts for these posts. Those of the batch itself must be added before. */
export async function loadFacts(sql: Sql, posts: readonly Judged[], facts: LoadedFacts): Promise<void> {
  const roots = distinct(posts.flatMap((p) => p.root ?? []))
  const quoted = distinct(posts.flatMap((p) => (p.quotes !== null && didOfUri(p.quotes) !== p.did ? [p.quotes] : [])))
  await Promise.all([
    loadParents(sql, distinct(posts.flatMap((p) => p.parent ?? [])), facts),
    loadGates(sql, roots, quoted, facts),
  ])
  await loadRelations(sql, posts, facts)
}

/** The posts above, up to `levels` further up. */
export async function loadAncestors(
  sql: Sql,
  posts: readonly Judged[],
  levels: number,
  facts: LoadedFacts,
): Promise<void> {
  let line = posts.flatMap(({ parent, at }) => (parent === null ? [] : [{ uri: parent, at }]))
  for (let level = 0; level < levels && line.length > 0; level++) {
    await loadParents(sql, distinct(line.map(({ uri }) => uri)), facts)
    line = line.flatMap(({ uri, at }) => {
      const parent = facts.postAt(uri, at)?.parent
      return parent ? [{ uri: parent, at }] : []
    })
  }
}

async function loadParents(sql: Sql, uris: readonly string[], facts: LoadedFacts): Promise<void> {
  // Past parents are judged by their own parents: further rounds only where a deleted or edited post stands above another.
  for (let round = 0, asked = uris; asked.length > 0 && round < PAST_LEVELS_MAX; round++) {
    const unknown = asked.filter((uri) => !facts.hasPost(uri))
    const [living, past] = await Promise.all([
      unknown.length > 0 ? sql.query<ParentRow>(PARENTS, [unknown]) : [],
      loadPast(sql, asked, facts),
    ])
    for (const { uri, root, parent, invalid } of living) {
      facts.addPost({ uri, root, parent, invalidReplyRoot: invalid === true })
    }
    asked = distinct(past.flatMap(({ fact }) => (fact as PastPost).parent ?? []))
  }
}

interface ParentRow {
  uri: string
  root: string | null
  parent: string | null
  invalid: boolean | null
}

const PARENTS: Statement = {
  name: 'thread-parents',
  text: `
    select uri, "replyRoot" as root, "replyParent" as parent, "invalidReplyRoot" as invalid
    from post where uri = any($1::text[])`,
}

async function loadGates(
  sql: Sql,
  roots: readonly string[],
  quoted: readonly string[],
  facts: LoadedFacts,
): Promise<void> {
  if (roots.length + quoted.length === 0) return
  const [threadGates, postGates] = await Promise.all([
    roots.length > 0 ? sql.query<GateRow>(THREAD_GATES, [roots]) : [],
    quoted.length > 0 ? sql.query<GateRow>(POST_GATES, [quoted]) : [],
    loadPast(sql, [...roots.map(threadGateKey), ...quoted.map(postGateKey)], facts),
  ])
  for (const row of threadGates) facts.addSpan(threadGateKey(row.postUri), gateSpan(row, readThreadGate))
  for (const row of postGates) facts.addSpan(postGateKey(row.postUri), gateSpan(row, readPostGate))
}

interface DatedRow {
  rev: string
  live: boolean
  createdAt: string
}

interface GateRow extends DatedRow {
  postUri: string
  json: string
}

/** How a record row tells when it was written; one that another indexer wrote does not. */
const DATED = `coalesce(record.rev, '') as rev, record.rev is not null and record."fromExport" is not true as live`

function gateSpan<T>({ json, ...dated }: GateRow, read: (record: object) => T): Span<T> {
  return { since: writtenAt(dated, claimOfDate(dated.createdAt)), fact: read(JSON.parse(json) as object) }
}

const THREAD_GATES: Statement = {
  name: 'thread-gates',
  text: `
    select gate."postUri", record.json, ${DATED}, gate."createdAt" from thread_gate gate join record using (uri)
    where gate."postUri" = any($1::text[])`,
}
const POST_GATES: Statement = {
  name: 'post-gates',
  text: `
    select gate."postUri", record.json, ${DATED}, gate."createdAt" from post_gate gate join record using (uri)
    where gate."postUri" = any($1::text[])`,
}

/** Mentions, follows and list items, as far as the gates of these posts ask for them. */
async function loadRelations(sql: Sql, posts: readonly Judged[], facts: LoadedFacts): Promise<void> {
  const mentions = new Set<string>()
  const follows = new Map<string, [follower: string, followed: string]>()
  const items = new Map<string, [list: string, member: string]>()
  for (const { did, root, at } of posts) {
    const gate = root === null ? undefined : facts.threadGate(root, at)
    for (const rule of gate?.allow ?? []) {
      const owner = didOfUri(root!)
      if (rule.rule === 'mentioned') mentions.add(root!)
      else if (rule.rule === 'follower') follows.set(followKey(did, owner), [did, owner])
      else if (rule.rule === 'following') follows.set(followKey(owner, did), [owner, did])
      else if (rule.rule === 'list') items.set(listItemKey(rule.list, did), [rule.list, did])
    }
  }
  await Promise.all([
    loadMentions(sql, [...mentions], facts),
    loadPairs(sql, FOLLOWS, follows, facts),
    loadPairs(sql, LIST_ITEMS, items, facts),
  ])
}

async function loadMentions(sql: Sql, roots: readonly string[], facts: LoadedFacts): Promise<void> {
  if (roots.length === 0) return
  const [living] = await Promise.all([
    sql.query<{ uri: string; json: string }>(RECORDS, [roots]),
    loadPast(sql, roots, facts),
  ])
  for (const { uri, json } of living) {
    facts.addMentions(uri, mentionsOf(JSON.parse(json) as Facetted))
  }
}

const RECORDS: Statement = { name: 'thread-roots', text: `select uri, json from record where uri = any($1::text[])` }

async function loadPairs(
  sql: Sql,
  statement: Statement,
  pairs: Map<string, [string, string]>,
  facts: LoadedFacts,
): Promise<void> {
  if (pairs.size === 0) return
  const keys = [...pairs.keys()]
  const [a, b] = [0, 1].map((i) => [...pairs.values()].map((pair) => pair[i]!))
  const [living] = await Promise.all([
    sql.query<DatedRow & { index: number; uri: string }>(statement, [a, b]),
    loadPast(sql, keys, facts),
  ])
  for (const { index, uri, ...dated } of living) {
    facts.addSpan(keys[index - 1]!, { since: writtenAt(dated, claimOfKey(uri, dated.createdAt)), fact: true })
  }
}

const FOLLOWS: Statement = {
  name: 'thread-follows',
  text: `
    select pair.index::int, follow.uri, follow."createdAt", ${DATED}
    from unnest($1::text[], $2::text[]) with ordinality as pair (creator, subject, index)
    join follow on follow.creator = pair.creator and follow."subjectDid" = pair.subject
    join record on record.uri = follow.uri`,
}
const LIST_ITEMS: Statement = {
  name: 'thread-list-items',
  text: `
    select pair.index::int, item.uri, item."createdAt", ${DATED}
    from unnest($1::text[], $2::text[]) with ordinality as pair (list, member, index)
    join list_item item on item."listUri" = pair.list and item."subjectDid" = pair.member
    join record on record.uri = item.uri`,
}

/** Loads ended spans of keys that were not asked for before; resolves to the new ones. */
async function loadPast(sql: Sql, keys: readonly string[], facts: LoadedFacts): Promise<PastRow[]> {
  const unasked = keys.filter((key) => facts.ask(key))
  if (unasked.length === 0) return []
  const rows = await sql.query<PastRow>(PAST, [unasked])
  for (const { key, since, until, fact } of rows) facts.addSpan(key, { since, until, fact })
  return rows
}

interface PastRow {
  key: string
  since: string
  until: string
  fact: unknown
}

const PAST: Statement = {
  name: 'past-facts',
  text: `select key, since, until, fact from past_fact where key = any($1::text[])`,
}

export interface Facetted {
  facets?: { features: { $type?: string; did?: string }[] }[]
}

/** Whom a post mentions, in order. */
export function mentionsOf({ facets = [] }: Facetted): string[] {
  return facets
    .flatMap(({ features }) => features)
    .flatMap(({ $type, did }) => ($type === 'app.bsky.richtext.facet#mention' && did !== undefined ? [did] : []))
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)]
}

/**
 * Loads the facts that judging a batch of posts needs, in a handful of statements over the whole batch. Facts that
 * still hold come from the rows of posts, gates, follows and list items. Facts that no longer hold (a deleted parent,
 * an earlier gate, an ended follow) come from `past_fact`.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import { keyed, oneOfKey } from '../by-key.ts'
import type { Sql, Statement } from '../depends.ts'
import { PAST_LEVELS_MAX, type LoadedFacts, type Span } from './facts.ts'
import { followKey, listItemKey, postGateKey, readPostGate, readThreadGate, threadGateKey } from './gates.ts'
import type { Judged } from './judge.ts'
import { loadPastGates, loadPastMentions, loadPastPosts, loadPastRelations } from './load-past.ts'
import type { KeyAt, MentionAt, PostAt } from './load-past.ts'
import { claimOfDate, claimOfKey, writtenAt } from './when.ts'

/**
 * Loads the facts for these posts. The caller must have named the batch's own posts to `facts` before
 * (`LoadedFacts.expect`).
 */
export async function loadFacts(sql: Sql, posts: readonly Judged[], facts: LoadedFacts): Promise<void> {
  const roots = posts.flatMap(({ root, at }) => (root === null ? [] : [{ uri: root, at }]))
  const quoted = posts.flatMap(({ did, quotes, at }) =>
    quotes !== null && didOfUri(quotes) !== did ? [{ uri: quotes, at }] : [],
  )
  await Promise.all([loadParents(sql, parentsOf(posts), facts), loadGates(sql, roots, quoted, facts)])
  await loadRelations(sql, posts, facts)
}

/** Loads the ancestors of these posts: the parent, its parent, and so on, `levels` of them. */
export async function loadAncestors(
  sql: Sql,
  posts: readonly Judged[],
  levels: number,
  facts: LoadedFacts,
): Promise<void> {
  let line = parentsOf(posts)
  for (let level = 0; level < levels && line.length > 0; level++) {
    await loadParents(sql, line, facts)
    line = line.flatMap(({ uri, at }) => {
      const parent = facts.postAt(uri, at)?.parent
      return parent ? [{ uri: parent, at }] : []
    })
  }
}

function parentsOf(posts: readonly Judged[]): PostAt[] {
  return posts.flatMap(({ parent, at }) => (parent === null ? [] : [{ uri: parent, at }]))
}

async function loadParents(sql: Sql, parents: readonly PostAt[], facts: LoadedFacts): Promise<void> {
  // An ended version of a parent is judged by its own parent, at its own time. So there are further rounds only where
  // deleted or edited posts are above each other. There is a round for each level that judging looks at: judging would
  // take a version that was not loaded for one that never existed.
  for (let level = 0, asked = parents; asked.length > 0 && level <= PAST_LEVELS_MAX + 1; level++) {
    const unknown = distinct(asked.map(({ uri }) => uri)).filter((uri) => !facts.hasPost(uri))
    const [living, past] = await Promise.all([
      unknown.length > 0 ? sql.query<ParentRow>(PARENTS, [unknown]) : [],
      loadPastPosts(sql, asked, facts),
    ])
    for (const { uri, root, parent, invalid } of living) {
      facts.addPost({ uri, root, parent, invalidReplyRoot: invalid === true })
    }
    asked = past.flatMap(({ since, fact: { parent } }) => (parent === null ? [] : [{ uri: parent, at: since }]))
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

/**
 * Loads the thread gates of these roots and the post gates of these quoted posts, those in force now and those that
 * were in force at each time.
 */
export async function loadGates(
  sql: Sql,
  roots: readonly PostAt[],
  quoted: readonly PostAt[],
  facts: LoadedFacts,
): Promise<void> {
  if (roots.length + quoted.length === 0) return
  const [threadGates, postGates] = await Promise.all([
    roots.length > 0 ? sql.query<GateRow>(THREAD_GATES, [distinct(roots.map(({ uri }) => uri))]) : [],
    quoted.length > 0 ? sql.query<GateRow>(POST_GATES, [distinct(quoted.map(({ uri }) => uri))]) : [],
    loadPastGates(sql, roots, quoted, facts),
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

/** The columns of `record` that tell when a record was written. A row that another indexer wrote has no rev. */
const DATED = `coalesce(record.rev, '') as rev, record.rev is not null and record."fromExport" is not true as live`

function gateSpan<T>({ json, ...dated }: GateRow, read: (record: object) => T): Span<T> {
  return { since: writtenAt(dated, claimOfDate(dated.createdAt)), fact: read(JSON.parse(json) as object) }
}

const THREAD_GATES: Statement = {
  name: 'thread-gates',
  text: `
    select gate."postUri", record.json, ${DATED}, gate."createdAt" from thread_gate gate
    join record on ${keyed('record.uri', 'gate.uri')}
    where gate."postUri" = any($1::text[])`,
}
const POST_GATES: Statement = {
  name: 'post-gates',
  text: `
    select gate."postUri", record.json, ${DATED}, gate."createdAt" from post_gate gate
    join record on ${keyed('record.uri', 'gate.uri')}
    where gate."postUri" = any($1::text[])`,
}

/** Loads mentions, follows and list items, but only those that a rule of a gate of these posts refers to. */
async function loadRelations(sql: Sql, posts: readonly Judged[], facts: LoadedFacts): Promise<void> {
  const mentions: MentionAt[] = []
  const follows = new Relations()
  const items = new Relations()
  for (const { did, root, at } of posts) {
    const gate = root === null ? undefined : facts.threadGate(root, at)
    for (const rule of gate?.allow ?? []) {
      const owner = didOfUri(root!)
      if (rule.rule === 'mentioned') mentions.push({ uri: root!, did, at })
      else if (rule.rule === 'follower') follows.ask(followKey(did, owner), [did, owner], at)
      else if (rule.rule === 'following') follows.ask(followKey(owner, did), [owner, did], at)
      else if (rule.rule === 'list') items.ask(listItemKey(rule.list, did), [rule.list, did], at)
    }
  }
  await Promise.all([
    loadMentions(sql, mentions, facts),
    loadPairs(sql, FOLLOWS, follows, facts),
    loadPairs(sql, LIST_ITEMS, items, facts),
  ])
}

/**
 * Relations to load: the two accounts (or list and account) by fact key, and the times at which the relation matters.
 */
class Relations {
  readonly pairs = new Map<string, [string, string]>()
  readonly asked: KeyAt[] = []

  ask(key: string, pair: [string, string], at: string): void {
    this.pairs.set(key, pair)
    this.asked.push({ key, at })
  }
}

async function loadMentions(sql: Sql, asked: readonly MentionAt[], facts: LoadedFacts): Promise<void> {
  if (asked.length === 0) return
  const [living] = await Promise.all([
    sql.query<{ uri: string; json: string }>(RECORDS, [distinct(asked.map(({ uri }) => uri))]),
    loadPastPosts(sql, asked, facts),
  ])
  for (const { uri, json } of living) facts.addMentions(uri, mentionsOf(JSON.parse(json) as Facetted))
  await loadPastMentions(sql, asked, facts)
}

const RECORDS: Statement = { name: 'thread-roots', text: `select uri, json from record where uri = any($1::text[])` }

async function loadPairs(
  sql: Sql,
  statement: Statement,
  { pairs, asked }: Relations,
  facts: LoadedFacts,
): Promise<void> {
  if (pairs.size === 0) return
  const keys = [...pairs.keys()]
  const [a, b] = [0, 1].map((i) => [...pairs.values()].map((pair) => pair[i]!))
  const [living] = await Promise.all([
    sql.query<DatedRow & { index: number; uri: string }>(statement, [a, b]),
    loadPastRelations(sql, asked, facts),
  ])
  for (const { index, uri, ...dated } of living) {
    facts.addSpan(keys[index - 1]!, { since: writtenAt(dated, claimOfKey(uri, dated.createdAt ?? '')), fact: true })
  }
}

/**
 * The record that holds the row, and its duplicates in `duplicate_record` (a second follow of the same account, for
 * example). A duplicate may be older than the holder, and the relation exists while any of them does. At most
 * WAITING_MAX duplicates are read, since anybody can make any number of them. The LIMIT has no order, so with more
 * duplicates it is undefined which of them are read.
 */
const withWaiting = (holder: string): string => `(
      select ${holder}.uri, ${holder}."createdAt"
      union all select waiting.uri, (select case when position('\\u' in json) = 0 then json::json ->> 'createdAt' end from record where record.uri = waiting.uri) from (
        select uri from duplicate_record waiting where waiting."duplicateOf" = ${holder}.uri limit ${WAITING_MAX}
      ) waiting
    )`

const WAITING_MAX = 100

const FOLLOWS: Statement = {
  name: 'thread-follows',
  text: `
    select pair.index::int, follow.uri, follow."createdAt", ${DATED}
    from unnest($1::text[], $2::text[]) with ordinality as pair (creator, subject, index)
    cross join lateral (
      select uri, "createdAt" from follow ${oneOfKey({ 'follow.creator': 'pair.creator', 'follow."subjectDid"': 'pair.subject' })}
    ) holder
    cross join lateral ${withWaiting('holder')} follow
    join record on ${keyed('record.uri', 'follow.uri')}`,
}
const LIST_ITEMS: Statement = {
  name: 'thread-list-items',
  text: `
    select pair.index::int, item.uri, item."createdAt", ${DATED}
    from unnest($1::text[], $2::text[]) with ordinality as pair (list, member, index)
    cross join lateral (
      select uri, "createdAt" from list_item item ${oneOfKey({ 'item."listUri"': 'pair.list', 'item."subjectDid"': 'pair.member' })}
    ) holder
    cross join lateral ${withWaiting('holder')} item
    join record on ${keyed('record.uri', 'item.uri')}`,
}

export interface Facetted {
  facets?: { features: { $type?: string; did?: string }[] }[]
}

/** The accounts that a post mentions, in the order of the text's facets. */
export function mentionsOf({ facets = [] }: Facetted): string[] {
  return facets
    .flatMap(({ features }) => features)
    .flatMap(({ $type, did }) => ($type === 'app.bsky.richtext.facet#mention' && did !== undefined ? [did] : []))
}

function distinct(values: readonly string[]): string[] {
  return [...new Set(values)]
}

/**
 * Loads what judging a batch of posts needs, in a handful of statements over the whole batch.
 *
 * Facts that are no longer true are in `past_fact`: a deleted parent, an earlier gate, an ended follow, each with the span in which it held. So a late
 * post is judged as it would have been in time.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Sql, Statement } from '../define.ts'
import {
  followKey,
  listItemKey,
  postGateKey,
  readPostGate,
  readThreadGate,
  threadGateKey,
  type PostGate,
  type ThreadGate,
} from './gates.ts'
import { isReplyRootInvalid, type Facts, type Judged, type ThreadPost } from './judge.ts'
import { claimOfDate, claimOfKey, writtenAt } from './when.ts'

/** Something that was true from `since` until before `until` (TIDs); without `until` it still is. */
interface Span<T> {
  since: string
  until?: string
  fact: T
}

interface PastPost {
  root: string | null
  parent: string | null
  mentions: string[]
}

const PAST_LEVELS_MAX = 50

export class LoadedFacts implements Facts {
  readonly #posts = new Map<string, ThreadPost>()
  readonly #spans = new Map<string, Span<unknown>[]>()
  readonly #mentions = new Map<string, string[]>()
  #unjudged = new Set<string>()
  #judge: (uri: string) => void = () => {}
  /** Keys whose ended spans are loaded. */
  readonly #asked = new Set<string>()

  addPost(post: ThreadPost): void {
    this.#posts.set(post.uri, post)
  }

  hasPost(uri: string): boolean {
    return this.#posts.has(uri) || this.#unjudged.has(uri)
  }

  /** Posts of the batch itself: `judge` is called when one of them is asked for that was not added yet, and adds it. */
  expect(uris: Iterable<string>, judge: (uri: string) => void): void {
    this.#unjudged = new Set(uris)
    this.#judge = judge
  }

  /** True the first time. */
  ask(key: string): boolean {
    const before = this.#asked.size
    return this.#asked.add(key).size > before
  }

  addSpan(key: string, span: Span<unknown>): void {
    const spans = this.#spans.get(key)
    if (spans) spans.push(span)
    else this.#spans.set(key, [span])
  }

  parent(reply: Judged): ThreadPost | undefined {
    return this.postAt(reply.parent!, reply.at)
  }

  /**
   * The post as it was at that time: an ended version that was still to end, else the one that lives. A post counts from its beginning on: it cannot have
   * been answered before it was written, whatever the clocks say.
   */
  postAt(uri: string, at: string, level = 0): ThreadPost | undefined {
    const past = this.#pastPost(uri, at)
    if (!past) return this.#livingPost(uri)
    return { uri, ...past.fact, invalidReplyRoot: this.#wasInvalid(past, level) }
  }

  #livingPost(uri: string): ThreadPost | undefined {
    if (this.#unjudged.delete(uri)) this.#judge(uri)
    return this.#posts.get(uri)
  }

  /** Of the versions that were still to end: the last that had begun, or else the first. */
  #pastPost(uri: string, at: string): Span<PastPost> | undefined {
    const open = (this.#spans.get(uri) ?? []).filter(({ until }) => until! > at).sort(bySince)
    return (open.findLast(({ since }) => since <= at) ?? open[0]) as Span<PastPost> | undefined
  }

  /** As it was judged in its own time. A circle of deleted posts is valid nowhere, so it ends at some level. */
  #wasInvalid({ since, fact: { root, parent } }: Span<PastPost>, level: number): boolean {
    if (root === null || parent === null) return false
    if (level > PAST_LEVELS_MAX) return true
    return isReplyRootInvalid({ root, parent }, this.postAt(parent, since, level + 1))
  }

  threadGate(postUri: string, at: string): ThreadGate | undefined {
    return this.#at<ThreadGate>(threadGateKey(postUri), at)?.fact
  }

  postGate(postUri: string, at: string): PostGate | undefined {
    return this.#at<PostGate>(postGateKey(postUri), at)?.fact
  }

  mentions(postUri: string, at: string): ReadonlySet<string> {
    const { mentions } = this.#pastPost(postUri, at)?.fact ?? { mentions: this.#mentions.get(postUri) }
    return new Set(mentions)
  }

  addMentions(postUri: string, mentions: string[]): void {
    this.#mentions.set(postUri, mentions)
  }

  follows(follower: string, followed: string, at: string): boolean {
    return this.#at(followKey(follower, followed), at) !== undefined
  }

  inList(list: string, member: string, at: string): boolean {
    return this.#at(listItemKey(list, member), at) !== undefined
  }

  /** The fact in force: an ended one whose span holds the time goes before one that still is, whose beginning may be claimed too early. */
  #at<T>(key: string, at: string): Span<T> | undefined {
    let best: Span<unknown> | undefined
    for (const span of this.#spans.get(key) ?? []) {
      if (span.since > at || (span.until !== undefined && span.until <= at)) continue
      if (!best || precedes(span, best)) best = span
    }
    return best as Span<T> | undefined
  }
}

function bySince(a: Span<unknown>, b: Span<unknown>): number {
  return a.since < b.since ? -1 : 1
}

function precedes(a: Span<unknown>, b: Span<unknown>): boolean {
  if ((a.until === undefined) !== (b.until === undefined)) return a.until !== undefined
  return a.since > b.since
}

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

/**
 * Loads from `past_fact` the facts that were true at a given time and no longer are.
 *
 * For each key and time only the one span that can count is read, never all spans of the key. Each edit of a post
 * leaves a span. An attacker can edit thousands of times, and each version may have ten thousand mentions.
 */
import { didOfUri, rkeyOfUri } from '@sluice/events/stream-event.ts'
import { keyed } from '../by-key.ts'
import { CLAIMED_FROM, type Sql, type Statement } from '../depends.ts'
import type { LoadedFacts, PastPost, Span } from './facts.ts'
import { postGateKey, threadGateKey } from './gates.ts'

/** A question: the post as it was at this time. */
export interface PostAt {
  uri: string
  at: string
}

/** A question: whether the post mentioned account `did` at this time. */
export interface MentionAt extends PostAt {
  did: string
}

/** A question: the fact with this key at this time. */
export interface KeyAt {
  key: string
  at: string
}

interface PastRow<T> extends Required<Span<T>> {
  key: string
}

/**
 * Adds the ended version of each post that counted at that time, without its mentions. Resolves to the versions of the
 * questions that were not asked before.
 */
export async function loadPastPosts(
  sql: Sql,
  posts: readonly PostAt[],
  facts: LoadedFacts,
): Promise<PastRow<PastPost>[]> {
  return await load<PastPost>(
    sql,
    PAST_POSTS,
    posts.map(({ uri, at }) => ({ uri, key: uri, at })),
    facts,
  )
}

/** Adds the ended version of each gate that was in force at that time. */
export async function loadPastGates(
  sql: Sql,
  roots: readonly PostAt[],
  quoted: readonly PostAt[],
  facts: LoadedFacts,
): Promise<void> {
  const asked = [
    ...roots.map(({ uri, at }) => ({ uri: gateOf(uri, 'threadgate'), key: threadGateKey(uri), at })),
    ...quoted.map(({ uri, at }) => ({ uri: gateOf(uri, 'postgate'), key: postGateKey(uri), at })),
  ]
  await load(sql, PAST_GATES, asked, facts)
}

/** The gate's URI: a gate has the account and the record key of its post. */
function gateOf(postUri: string, kind: string): string {
  return `at://${didOfUri(postUri)}/app.bsky.feed.${kind}/${rkeyOfUri(postUri)}`
}

/** Adds each ended follow or list item that was in force at that time. */
export async function loadPastRelations(sql: Sql, relations: readonly KeyAt[], facts: LoadedFacts): Promise<void> {
  await load(
    sql,
    PAST_RELATIONS,
    relations.map(({ key, at }) => ({ uri: key, key, at })),
    facts,
  )
}

/**
 * Adds those of the asked mentions that are in ended versions. The versions must be loaded before (`loadPastPosts`).
 */
export async function loadPastMentions(sql: Sql, asked: readonly MentionAt[], facts: LoadedFacts): Promise<void> {
  const versions = asked.flatMap(({ uri, did, at }) => {
    const since = facts.pastVersion(uri, at)
    return since === undefined ? [] : [{ uri, did, since }]
  })
  if (versions.length === 0) return
  const rows = await sql.query<{ uri: string; since: string; did: string }>(PAST_MENTIONS, [
    versions.map(({ uri }) => uri),
    versions.map(({ since }) => since),
    versions.map(({ did }) => did),
  ])
  for (const { uri, since, did } of rows) facts.addMentions(uri, [did], since)
}

async function load<T>(
  sql: Sql,
  statement: Statement,
  asked: readonly (KeyAt & { uri: string })[],
  facts: LoadedFacts,
): Promise<PastRow<T>[]> {
  const unasked = asked.filter(({ key, at }) => facts.ask(key, at))
  if (unasked.length === 0) return []
  const rows = await sql.query<PastRow<T>>(statement, [
    unasked.map(({ uri }) => uri),
    unasked.map(({ key }) => key),
    unasked.map(({ at }) => at),
  ])
  for (const { key, since, until, fact } of rows) facts.addSpan(key, { since, until, fact })
  return rows
}

/**
 * The questions: key, URI of the record, time. A question whose time is after the last end of the key's spans is
 * dropped, since no span can contain that time. The last end is looked up once per key. Most replies are written after
 * the last edit of the post above them; without this, each such reply would read all ended versions of that post.
 * OFFSET 0 keeps the planner from reordering the joins.
 */
const ASKED = `(
      select of_key.uri, of_key.key, asked.at
      from (
        select uri, key, array_agg(distinct at) as times from unnest($1::text[], $2::text[], $3::text[]) as asked (uri, key, at)
        group by uri, key
      ) of_key
      cross join lateral (select max(past.until) as until from past_fact past where past.key = of_key.key offset 0) last
      cross join lateral unnest(of_key.times) as asked (at)
      where asked.at < last.until offset 0
    ) asked`

/**
 * The latest span that contains the time, found by reading backwards from the time. The read stops at a gap (a row with
 * the key `gap`, where the path was emptied): every span that began before a gap ends at it (`cut-facts.ts`), so none
 * of these can contain the time. `past.key || ''` is written so that the index on `key` cannot be used: all gaps of all
 * paths share one key.
 */
const BEGUN = `
        select since, until, fact from (
          select key, since, until, fact from past_fact past
          where past.uri = asked.uri and past.since <= asked.at
            and (past.key || '' = 'gap' or (past.key = asked.key and past.until > asked.at))
          order by since desc limit 1
        ) last where key <> 'gap'`

/**
 * The span that contains the time, else the first span that begins after it. Mentions are not read: one version may
 * have 360 KB of them.
 */
const PAST_POSTS: Statement = {
  name: 'past-posts',
  text: `
    select key, since, until, fact - 'mentions' as fact from (
      select distinct on (asked.key, held.since) asked.key, held.since, held.until, held.fact
      from ${ASKED} cross join lateral (
        select since, until, fact from (
          (${BEGUN}
          ) union all (
            select since, until, fact from past_fact past
            where past.uri = asked.uri and past.key || '' = asked.key and past.since > asked.at order by since limit 1
          )
        ) candidate order by since limit 1
      ) held
      offset 0
    ) past`,
}

const PAST_GATES: Statement = {
  name: 'past-gates',
  text: `
    select distinct on (asked.key, held.since) asked.key, held.since, held.until, held.fact
    from ${ASKED} cross join lateral (${BEGUN}
    ) held`,
}

/**
 * The beginning of a follow or a list item, as far as it is known. An expression, so that the primary key (which begins
 * with the record's URI) cannot be used.
 */
const BEGAN = `coalesce(past.fact ->> '${CLAIMED_FROM}', past.since)`

/** Several records may state the same relation; any one that was in force at the time counts. */
const PAST_RELATIONS: Statement = {
  name: 'past-relations',
  text: `
    select distinct asked.key, held.since, held.until, true as fact from ${ASKED} cross join lateral (
      select ${BEGAN} as since, until from past_fact past
      where past.key = asked.key and ${BEGAN} <= asked.at and past.until > asked.at order by past.since desc limit 1
    ) held`,
}

const PAST_MENTIONS: Statement = {
  name: 'past-mentions',
  text: `
    select asked.uri, asked.since, asked.did from unnest($1::text[], $2::text[], $3::text[]) as asked (uri, since, did)
    join past_fact past on ${keyed('past.uri', 'asked.uri')} and past.since = asked.since where past.fact -> 'mentions' ? asked.did`,
}

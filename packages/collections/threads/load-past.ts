/**
 * Loads from `past_fact` what was true at a given time and is no more. Of each key the one span that can count then, and never all: whoever edits
 * a post leaves a span with each edit, thousands when that is meant to do harm, and each may hold ten thousand mentions.
 */
import { didOfUri, rkeyOfUri } from '@sluice/events/stream-event.ts'
import { keyed } from '../by-key.ts'
import { CLAIMED_FROM, type Sql, type Statement } from '../define.ts'
import type { LoadedFacts, PastPost, Span } from './facts.ts'
import { postGateKey, threadGateKey } from './gates.ts'

export interface PostAt {
  uri: string
  at: string
}

/** Whether the post mentioned that account then. */
export interface MentionAt extends PostAt {
  did: string
}

export interface KeyAt {
  key: string
  at: string
}

interface PastRow<T> extends Required<Span<T>> {
  key: string
}

/** Adds the version that counted at each of these times, without its mentions; resolves to those that were not asked for before. */
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

/** Adds the gate in force at each of these times, where it is one that has ended. */
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

/** A gate has the account and the record key of its post. */
function gateOf(postUri: string, kind: string): string {
  return `at://${didOfUri(postUri)}/app.bsky.feed.${kind}/${rkeyOfUri(postUri)}`
}

/** Adds the follow or the list item in force at each of these times, where it is one that has ended. */
export async function loadPastRelations(sql: Sql, relations: readonly KeyAt[], facts: LoadedFacts): Promise<void> {
  await load(
    sql,
    PAST_RELATIONS,
    relations.map(({ key, at }) => ({ uri: key, key, at })),
    facts,
  )
}

/** Adds which of these mentions were in versions that have ended. The versions themselves must be loaded. */
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
 * What is asked for: key, its record, time. Not after the last end of the key, which is looked up once for all times: what lives has been edited before
 * most of its replies are written, and each of them would read all that has ended. OFFSET 0 keeps the planner from asking the other way round.
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
 * The last version that had begun and was still to end, read backwards from the time. A gap ends all that began before it (`cut-facts.ts`), so there is nothing
 * to be found beyond one. Written so that the index on `key` cannot match: all gaps share that key.
 */
const BEGUN = `
        select since, until, fact from (
          select key, since, until, fact from past_fact past
          where past.uri = asked.uri and past.since <= asked.at
            and (past.key || '' = 'gap' or (past.key = asked.key and past.until > asked.at))
          order by since desc limit 1
        ) last where key <> 'gap'`

/** Else the first that was still to begin. Mentions stay where they are: 360 KB of them in one version. */
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

/** From when on a follow or a list item held, as far as is known. Written so that the primary key cannot match: it begins with the record. */
const BEGAN = `coalesce(past.fact ->> '${CLAIMED_FROM}', past.since)`

/** Of several records that say the same any may be in force. */
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

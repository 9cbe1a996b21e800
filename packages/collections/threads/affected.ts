/**
 * Which posts have to be judged again, because something arrived late: after them, although it was true when they were written.
 *
 * In the natural order nothing is found here. The probes are by index, and the time of a post keeps posts out that were written before.
 * They also find what two consumers did to each other at the same moment, since they run after the commit.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Post } from '../app.bsky.feed/post.ts'
import type { Entry, Sql, Statement, Touched, Unseen } from '../define.ts'
import { LoadedFacts } from './facts.ts'
import { listItemKey } from './gates.ts'
import { loadGates } from './load-facts.ts'
import { affectedReplies, type Found } from './replies.ts'
import { claimOfDate, claimOfKey, timeOf, writtenAt } from './when.ts'

/**
 * For posts: replies below a new one, replies written after one that was deleted or written anew, and posts of the batch whose parent or gate came into being
 * meanwhile.
 */
export async function affectedByPosts(sql: Sql, touched: readonly Touched<Post>[], unseen: Unseen): Promise<string[]> {
  const living = touched.filter(({ entry }) => entry)
  const uris = living.map(({ uri }) => uri)
  return collect([
    touched.length > 0 && affectedReplies(sql, touched),
    living.length > 0 && unseen !== 'nothing' && sql.query<Found>(OVERTAKEN, [uris, unseen.since]),
    living.length > 0 && unseen !== 'nothing' && overtakenOnLists(sql, uris, unseen.since),
  ])
}

/** For thread gates: their posts, and replies in the thread that were written after the gate was made, changed or removed. */
export async function affectedByThreadGates(sql: Sql, touched: readonly Touched[]): Promise<string[]> {
  const posts = touched.map(gatedPost)
  return collect([sql.query<Found>(IN_THREAD_AFTER, [posts, touched.map(gateTime)]), sql.query<Found>(POSTS, [posts])])
}

/** For post gates: their posts, and quotes of them that were written after. */
export async function affectedByPostGates(sql: Sql, touched: readonly Touched[]): Promise<string[]> {
  const posts = touched.map(gatedPost)
  return collect([sql.query<Found>(QUOTES_AFTER, [posts, touched.map(gateTime)]), sql.query<Found>(POSTS, [posts])])
}

/** For follows: gated replies between the two accounts that were judged by whether they follow each other. */
export async function affectedByFollows(sql: Sql, touched: readonly Touched<{ subject: string }>[]): Promise<string[]> {
  const made = touched.flatMap(({ entry }) =>
    entry ? [{ a: entry.did, b: entry.record.subject, since: keyTime(entry) }] : [],
  )
  const ended = touched.filter(({ entry }) => !entry)
  return collect([
    made.length > 0 &&
      sql.query<Found>(BETWEEN, [made.map(({ a }) => a), made.map(({ b }) => b), made.map((m) => m.since)]),
    ended.length > 0 && sql.query<Found>(BETWEEN_ENDED, [ended.map(({ uri }) => uri), ended.map(({ rev }) => rev)]),
  ])
}

/** For list items: gated replies of the member. */
export async function affectedByListItems(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
): Promise<string[]> {
  const made = touched.flatMap(({ entry }) => (entry ? [{ member: entry.record.subject, since: keyTime(entry) }] : []))
  const ended = touched.filter(({ entry }) => !entry)
  return collect([
    made.length > 0 && sql.query<Found>(BY_MEMBER, [made.map((m) => m.member), made.map((m) => m.since)]),
    ended.length > 0 && sql.query<Found>(BY_MEMBER_ENDED, [ended.map(({ uri }) => uri), ended.map(({ rev }) => rev)]),
  ])
}

/**
 * Posts of the batch whose author another transaction put on a list that their gate names, or took off it. The gate may name anybody's list. Item by item: who is
 * on ten thousand lists would have them all read for each reply.
 */
async function overtakenOnLists(sql: Sql, uris: readonly string[], since: string | null): Promise<Found[]> {
  const gated = await sql.query<GatedReply>(GATED, [uris])
  if (gated.length === 0) return []
  const facts = new LoadedFacts()
  const roots = gated.map(({ root: uri, at }) => ({ uri, at }))
  await loadGates(sql, roots, [], facts)
  const items = gated.flatMap(({ uri, creator, root, at }) => {
    const rules = facts.threadGate(root, at)?.allow ?? []
    return rules.flatMap((rule) => (rule.rule === 'list' ? [{ uri, list: rule.list, member: creator }] : []))
  })
  if (items.length === 0) return []
  return sql.query<Found>(OVERTAKEN_ON_LISTS, [
    items.map(({ uri }) => uri),
    since,
    items.map(({ list }) => list),
    items.map(({ member }) => member),
    items.map(({ list, member }) => listItemKey(list, member)),
  ])
}

interface GatedReply {
  uri: string
  creator: string
  root: string
  at: string
}

async function collect(queries: (Promise<Found[]> | false)[]): Promise<string[]> {
  const found = await Promise.all(queries.filter((query) => query !== false))
  return found.flat().map(({ uri }) => uri)
}

/** A gate has the record key of its post. */
function gatedPost({ uri }: Touched): string {
  return `at://${didOfUri(uri)}/app.bsky.feed.post/${uri.slice(uri.lastIndexOf('/') + 1)}`
}

function gateTime({ entry, rev }: Touched): string {
  return entry ? writtenAt(entry, claimOfDate(entry.createdAt)) : rev
}

function keyTime(entry: Entry): string {
  return writtenAt(entry, claimOfKey(entry.uri, entry.createdAt))
}

/** Of several versions of one thing in a batch the first: what was written after a later one was written after that. */
const earliest = (key: string): string =>
  `(select ${key}, min(time) as time from unnest($1::text[], $2::text[]) as version (${key}, time) group by ${key})`

/**
 * Whether a row may have been written since that moment: an xid is young when its age is low; frozen rows are the oldest of all. Moments are xid8, whose text an xid
 * refuses after the server's first 2^32 transactions.
 */
const since = (row: string): string => `($2::text is null or age(${row}.xmin) <= age($2::text::xid8::xid))`

/**
 * Posts of the batch of whose ancestors, gates or follows another transaction wrote or ended one that the batch may not have seen. What many of them share
 * (a parent, a gate, an owner) is looked at once for all, since there is a past fact for each of its edits: so the recursion takes its posts together at
 * each level, which PostgreSQL allows one query further in.
 */
const OVERTAKEN: Statement = {
  name: 'affected-overtaken',
  text: `
    with recursive above (uris, parent, depth) as (
      select array_agg(uri), "replyParent", 1 from post where uri = any($1::text[]) and "replyParent" is not null group by "replyParent"
      union
      select below.uris, known.parent, depth + 1 from (
        select array_agg(distinct uri) as uris, parent, depth from (
          select uri, parent, depth from above cross join unnest(uris) as uri where depth < 5 offset 0
        ) level group by parent, depth
      ) below cross join lateral (
        select "replyParent" as parent from post where post.uri = below.parent
        union select fact ->> 'parent' from past_fact past where past.uri = below.parent
        offset 0
      ) known where known.parent is not null
    ), gated as materialized (
      select uri, creator, owner from gated_reply where uri = any($1::text[])
    ), asked (uris, key) as materialized (
      select array_agg(uri), key from (
        select uri, 'threadgate ' || coalesce("replyRoot", uri) as key from post where uri = any($1::text[])
        union all select uri, 'postgate ' || subject from quote where uri = any($1::text[])
        union all select uri, 'follow ' || owner || ' ' || creator from gated
        union all select uri, 'follow ' || creator || ' ' || owner from gated
      ) judged_by group by key
    )
    select unnest(above.uris) as uri from (
      select array_agg(distinct uri) as uris, parent from above cross join unnest(uris) as uri group by parent
    ) above cross join lateral (
      select from post where post.uri = above.parent and ${since('post')}
      union all select from past_fact past where past.uri = above.parent and ${since('past')}
      limit 1
    ) young
    union select unnest(asked.uris) from asked cross join lateral (
      select from past_fact past where past.key = asked.key and ${since('past')} limit 1
    ) young
    union select post.uri from post join thread_gate gate on gate."postUri" = coalesce(post."replyRoot", post.uri)
    where post.uri = any($1::text[]) and ${since('gate')}
    union select quote.uri from quote join post_gate gate on gate."postUri" = quote.subject
    where quote.uri = any($1::text[]) and ${since('gate')}
    union select gated.uri from gated
    join follow on (follow.creator, follow."subjectDid") in ((gated.owner, gated.creator), (gated.creator, gated.owner))
    where ${since('follow')}`,
}

const GATED: Statement = {
  name: 'affected-gated',
  text: `
    select gated.uri, gated.creator, post."replyRoot" as root, gated.at from gated_reply gated join post using (uri)
    where gated.uri = any($1::text[]) and post."replyRoot" is not null`,
}

/** What many replies share is looked at once, since there is a past fact for each time that somebody was taken off a list. */
const OVERTAKEN_ON_LISTS: Statement = {
  name: 'affected-overtaken-on-lists',
  text: `
    select unnest(asked.uris) as uri from (
      select array_agg(uri) as uris, list, member, key
      from unnest($1::text[], $3::text[], $4::text[], $5::text[]) as named (uri, list, member, key) group by list, member, key
    ) asked cross join lateral (
      select from list_item item where item."listUri" = asked.list and item."subjectDid" = asked.member and ${since('item')}
      union all select from past_fact past where past.key = asked.key and ${since('past')}
      limit 1
    ) young`,
}

const POSTS: Statement = { name: 'affected-posts', text: `select uri from post where uri = any($1::text[])` }

const IN_THREAD_AFTER: Statement = {
  name: 'affected-in-thread-after',
  text: `
    select post.uri from ${earliest('post')} gate
    join post on post."replyRoot" = gate.post where ${timeOf('post.uri')} >= gate.time`,
}

const QUOTES_AFTER: Statement = {
  name: 'affected-quotes-after',
  text: `
    select quote.uri from ${earliest('post')} gate
    join quote on quote.subject = gate.post where ${timeOf('quote.uri')} >= gate.time`,
}

/** Each pair once, with its first time: 8,000 follows of one pair, each of another key, times 10,000 replies were eighty million rows. So with list items. */
const BETWEEN: Statement = {
  name: 'affected-between',
  text: `
    with made as materialized (
      select a, b, min(time) as time from unnest($1::text[], $2::text[], $3::text[]) as follow (a, b, time) group by a, b
    )
    select reply.uri from made join gated_reply reply on reply.creator = a and reply.owner = b where reply.at >= made.time
    union select reply.uri from made join gated_reply reply on reply.creator = b and reply.owner = a where reply.at >= made.time`,
}

/** Ended follows and list items are named by what is remembered of them: `follow <follower> <followed>`, `listitem <list> <member>`. */
const BETWEEN_ENDED: Statement = {
  name: 'affected-between-ended',
  text: `
    with ended as materialized (
      select split_part(past.key, ' ', 2) as a, split_part(past.key, ' ', 3) as b, min(gone.time) as rev
      from ${earliest('uri')} gone join past_fact past on past.uri = gone.uri group by 1, 2
    )
    select reply.uri from ended join gated_reply reply on reply.creator = a and reply.owner = b where reply.at >= ended.rev
    union select reply.uri from ended join gated_reply reply on reply.creator = b and reply.owner = a where reply.at >= ended.rev`,
}

const BY_MEMBER: Statement = {
  name: 'affected-by-member',
  text: `
    select reply.uri from ${earliest('member')} item
    join gated_reply reply on reply.creator = item.member where reply.at >= item.time`,
}

const BY_MEMBER_ENDED: Statement = {
  name: 'affected-by-member-ended',
  text: `
    with ended as materialized (
      select split_part(past.key, ' ', 3) as member, min(gone.time) as rev
      from ${earliest('uri')} gone join past_fact past on past.uri = gone.uri group by 1
    )
    select reply.uri from ended join gated_reply reply on reply.creator = member where reply.at >= ended.rev`,
}

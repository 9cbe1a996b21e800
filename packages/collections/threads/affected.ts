/**
 * Which posts have to be judged again, because something arrived late: after them, although it was true when they were written.
 *
 * In the natural order nothing is found here. The probes are by index, and the time of a post keeps posts out that were written before.
 * They also find what two consumers did to each other at the same moment, since they run after the commit.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Post } from '../app.bsky.feed/post.ts'
import { keyed } from '../by-key.ts'
import type { Affected, Entry, Room, Sql, Statement, Touched, Unseen } from '../define.ts'
import { affectedByMentions } from './mentioned.ts'
import { overtaken } from './overtaken.ts'
import { affectedReplies } from './replies.ts'
import { type Found, look } from './room.ts'
import { claimOfDate, claimOfKey, timeOf, writtenAt } from './when.ts'

/**
 * For posts: replies below a new one, replies written after one that was deleted or written anew, those that a gate lets in because somebody is mentioned, and posts of the batch
 * whose ancestors or gates came into being meanwhile.
 */
export async function affectedByPosts(
  sql: Sql,
  touched: readonly Touched<Post>[],
  unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  if (touched.length === 0) return { uris: [], beyond: [] }
  return collect([
    affectedReplies(sql, touched, room),
    affectedByMentions(sql, touched, room),
    unseen !== 'nothing' && overtaken(sql, touched, unseen),
  ])
}

/** For thread gates: their posts, and replies in the thread that were written after the gate was made, changed or removed. */
export async function affectedByThreadGates(
  sql: Sql,
  touched: readonly Touched[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  return affectedByGates(sql, IN_THREAD_AFTER, touched, room)
}

/** For post gates: their posts, and quotes of them that were written after. */
export async function affectedByPostGates(
  sql: Sql,
  touched: readonly Touched[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  return affectedByGates(sql, QUOTES_AFTER, touched, room)
}

async function affectedByGates(
  sql: Sql,
  after: Statement,
  touched: readonly Touched[],
  room: Room | undefined,
): Promise<Affected> {
  const posts = touched.map(gatedPost)
  const most = room?.each ?? null
  const gates = [touched.map(({ uri }) => uri), touched.map(gateTime), posts]
  const [replies, marked] = await Promise.all([look(sql, after, gates, most), sql.query<Found>(POSTS, [posts])])
  return { ...replies, marked: marked.map(({ uri }) => uri) }
}

/**
 * For follows: gated replies between the two accounts that were judged by whether they follow each other. Of what stood there before, that of another account may end with a version: of those two,
 * too.
 */
export async function affectedByFollows(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  const made = touched.flatMap(({ uri, entry }) =>
    entry ? [{ uri, a: entry.did, b: entry.record.subject, since: keyTime(entry) }] : [],
  )
  const of = [
    made.map(({ uri }) => uri),
    made.map(({ since }) => since),
    made.map(({ a }) => a),
    made.map(({ b }) => b),
  ]
  return look(sql, BETWEEN, [...of, ...ending(touched)], room?.each ?? null)
}

/** For list items: gated replies of the member, and of who was the member before. */
export async function affectedByListItems(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  const made = touched.flatMap(({ uri, entry }) =>
    entry ? [{ uri, member: entry.record.subject, since: keyTime(entry) }] : [],
  )
  const of = [made.map(({ uri }) => uri), made.map(({ since }) => since), made.map(({ member }) => member)]
  return look(sql, BY_MEMBER, [...of, ...ending(touched)], room?.each ?? null)
}

async function collect(asked: (Promise<Affected> | false)[]): Promise<Affected> {
  const found = await Promise.all(asked.filter((each) => each !== false))
  return { uris: found.flatMap(({ uris }) => uris), beyond: found.flatMap(({ beyond }) => beyond) }
}

/** A gate has the record key of its post. */
function gatedPost({ uri }: Touched): string {
  return `at://${didOfUri(uri)}/app.bsky.feed.post/${uri.slice(uri.lastIndexOf('/') + 1)}`
}

function gateTime({ entry, rev }: Touched): string {
  return entry ? writtenAt(entry, claimOfDate(entry.createdAt)) : rev
}

/** Paths, and when these end what stood there before: all but those of whose path nothing was known. */
function ending(touched: readonly Touched[]): [uris: string[], times: string[]] {
  const all = touched.filter(({ entry, first }) => !(entry && first))
  return [all.map(({ uri }) => uri), all.map(({ entry, rev }) => (entry ? keyTime(entry) : rev))]
}

function keyTime(entry: Entry): string {
  return writtenAt(entry, claimOfKey(entry.uri, entry.createdAt))
}

/** With another column: the URI alone stands in the index of answers too, which PostgreSQL before 17 reads from end to end where it believes it to be small. */
const POSTS: Statement = { name: 'affected-posts', text: `select uri, creator from post where uri = any($1::text[])` }

/** Of several versions of one thing in a batch the first: what was written after a later one was written after that. */
const GATES = `(
      select min(uri) as uri, min(time) as time, post from unnest($1::text[], $2::text[], $3::text[]) as version (uri, time, post) group by post
    )`

const IN_THREAD_AFTER: Statement = {
  name: 'affected-in-thread-after',
  text: `
    select gate.uri, time, reply.uris, reply.looked from ${GATES} gate cross join lateral (
      select array_agg(uri) filter (where ${timeOf('reply.uri')} >= time) as uris, count(*)::int as looked
      from (select post.uri from post where post."replyRoot" = gate.post limit $4::bigint + 1) reply
    ) reply`,
}

const QUOTES_AFTER: Statement = {
  name: 'affected-quotes-after',
  text: `
    select gate.uri, time, quoting.uris, quoting.looked from ${GATES} gate cross join lateral (
      select array_agg(uri) filter (where ${timeOf('quoting.uri')} >= time) as uris, count(*)::int as looked
      from (select quote.uri from quote where quote.subject = gate.post limit $4::bigint + 1) quoting
    ) quoting`,
}

/**
 * What is remembered of the records that end or are written anew, as far as that may end it: `follow <follower> <followed>`, `listitem <list> <member>`. Of several ends of one record the first. What
 * had ended before stays as it was, of however many accounts.
 */
const remembered = (uris: string, times: string): string => `
        select gone.uri, gone.time, split_part(past.key, ' ', 2) as a, split_part(past.key, ' ', 3) as b
        from (select uri, min(time) as time from unnest(${uris}::text[], ${times}::text[]) as version (uri, time) group by uri) gone
        join past_fact past on ${keyed('past.uri', 'gone.uri')} and past.until >= gone.time`

/** Each pair once, with its first time: 8,000 follows of one pair, each of another key, times 10,000 replies were eighty million rows. So with list items. */
const BETWEEN: Statement = {
  name: 'affected-between',
  text: `
    with pair as materialized (
      select a, b, min(time) as time, min(uri) as uri from (
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as follow (uri, time, a, b)
        union all ${remembered('$5', '$6')}
      ) follow group by a, b
    )
    select pair.uri, time, reply.uris, reply.looked from pair cross join lateral (
      select array_agg(distinct uri) filter (where at >= time) as uris, count(*)::int as looked from (
        (select uri, at from gated_reply where creator = a and owner = b limit $7::bigint + 1)
        union all (select uri, at from gated_reply where creator = b and owner = a limit $7::bigint + 1)
      ) reply
    ) reply`,
}

const BY_MEMBER: Statement = {
  name: 'affected-by-member',
  text: `
    with item as materialized (
      select member, min(time) as time, min(uri) as uri from (
        select * from unnest($1::text[], $2::text[], $3::text[]) as item (uri, time, member)
        union all select uri, time, b from (${remembered('$4', '$5')}) remembered
      ) item group by member
    )
    select item.uri, time, reply.uris, reply.looked from item cross join lateral (
      select array_agg(uri) filter (where at >= time) as uris, count(*)::int as looked
      from (select uri, at from gated_reply where creator = member limit $6::bigint + 1) reply
    ) reply`,
}

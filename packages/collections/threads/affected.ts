/**
 * Finds the posts that have to be judged again because a record arrived after them, although that record was already in
 * force when they were written.
 *
 * Example: a reply is indexed before the thread gate that was made an hour before the reply. When the gate arrives, the
 * reply is found here and judged by the gate. Posts written before the gate are not found: the queries compare the time
 * of each post with the time of the gate.
 *
 * When records arrive in their natural order, nothing is found. All queries are index lookups. They run after the
 * commit, so they also find posts that another consumer wrote at the same moment.
 */
import { didOfUri, rkeyOfUri } from '@sluice/events/stream-event.ts'
import type { Post } from '../app.bsky.feed/post-record.ts'
import type { Affected, Asked, Room, Sql, Statement, Touched } from '../depends.ts'
import { affectedByMentions } from './mentioned.ts'
import { overtaken } from './overtaken.ts'
import { affectedReplies } from './replies.ts'
import { type Found, look } from './room.ts'
import { claimOfDate, timeOf, writtenAt } from './when.ts'

/**
 * For posts, finds:
 * - replies below a new post, and replies that were written after a post was deleted or written anew;
 * - replies whose verdict depends on whom the root post mentions;
 * - posts of the batch whose ancestors or gates another transaction wrote at the same time.
 */
export async function affectedByPosts(
  sql: Sql,
  touched: readonly Touched<Post>[],
  { unseen, room }: Asked,
): Promise<Affected> {
  if (touched.length === 0) return { uris: [], beyond: [] }
  return collect([
    affectedReplies(sql, touched, room),
    affectedByMentions(sql, touched, room),
    unseen !== 'nothing' && overtaken(sql, touched, unseen),
  ])
}

/**
 * For thread gates, finds the gated posts, and the replies in their threads that were written after the gate was made,
 * changed or removed.
 */
export async function affectedByThreadGates(sql: Sql, touched: readonly Touched[], { room }: Asked): Promise<Affected> {
  return affectedByGates(sql, IN_THREAD_AFTER, touched, room)
}

/**
 * For post gates, finds the gated posts, and the quotes of these that were written after the gate was made, changed or
 * removed.
 */
export async function affectedByPostGates(sql: Sql, touched: readonly Touched[], { room }: Asked): Promise<Affected> {
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

async function collect(asked: (Promise<Affected> | false)[]): Promise<Affected> {
  const found = await Promise.all(asked.filter((each) => each !== false))
  return { uris: found.flatMap(({ uris }) => uris), beyond: found.flatMap(({ beyond }) => beyond) }
}

/** The URI of the post that a gate belongs to: a gate has the account and the record key of its post. */
function gatedPost({ uri }: Touched): string {
  return `at://${didOfUri(uri)}/app.bsky.feed.post/${rkeyOfUri(uri)}`
}

/** When the gate began to hold, or when it was deleted. */
function gateTime({ entry, rev }: Touched): string {
  return entry ? writtenAt(entry, claimOfDate(entry.createdAt)) : rev
}

/**
 * Selects `creator` although nobody reads it. The index `post_replyparent_idx` includes the URI, so it would suffice
 * for a statement that asks for the URI alone: PostgreSQL before 17 reads that index from end to end where it believes
 * it to be small. It has no `creator`.
 */
const POSTS: Statement = { name: 'affected-posts', text: `select uri, creator from post where uri = any($1::text[])` }

/**
 * Of several versions of one gate in a batch only the earliest time: posts written after a later version were also
 * written after the first.
 */
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

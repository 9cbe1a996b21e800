/**
 * Finds the replies that have to be judged again because a post above them appeared, was deleted, or moved to another
 * place in a thread.
 */
import type { Post } from '../app.bsky.feed/post-record.ts'
import type { Affected, Beyond, Room, Sql, Statement, Touched } from '../depends.ts'
import type { Entry } from '../record.ts'
import { LoadedFacts } from './facts.ts'
import { isReplyRootInvalid, type Judged } from './judge.ts'
import { loadAncestors } from './load-facts.ts'
import { judgedOf, placeOf } from './posts.ts'
import { lookedAt, type Found, type Look } from './room.ts'
import { timeOf } from './when.ts'

/**
 * Finds the replies below each touched post:
 * - below a new post: all replies;
 * - below a deleted post, or a version that follows an earlier version: the replies written since then;
 * - below a version that has the same place in its thread as the version before it: none.
 *
 * Leaves out replies that were derived with the batch.
 */
export async function affectedReplies(
  sql: Sql,
  touched: readonly Touched<Post>[],
  room: Room | undefined,
): Promise<Affected> {
  const following = touched.filter(isFollowing)
  const before = following.length > 0 ? await versionsBefore(sql, following) : []
  const alike = before.length > 0 ? await whatIsInItsPlace(sql, following, before) : new Set()
  const changing = touched.filter((version) => !alike.has(version) && version.passesOn !== false)
  if (changing.length === 0) return { uris: [], beyond: [] }
  const ends = new Map(following.map((version, i) => [version as Touched, before[i]!.until]))
  const above = changing.map((version) => ({ uri: version.uri, since: fromWhenOn(version, ends.get(version) ?? '') }))
  const derived = new Set(touched.flatMap((version) => (version.entry && version.derived ? [version.uri] : [])))
  const { uris, beyond } = await lookBelow(sql, above, room)
  return { uris: uris.filter((uri) => !derived.has(uri)), beyond }
}

/**
 * Looks below all posts in one query. When that exceeds the room, looks below each post alone, to tell which of the
 * posts have too many replies.
 */
async function lookBelow(sql: Sql, above: readonly Beyond[], room: Room | undefined): Promise<Affected> {
  const from = [above.map(({ uri }) => uri), above.map(({ since }) => since)]
  const rows = await sql.query<Found & { isAffected: boolean; looked: number }>(REPLIES_FROM, [
    ...from,
    room?.all ?? null,
  ])
  const isCut = room !== undefined && rows.some(({ uri, looked }) => uri === CUT || looked > room.all)
  if (!isCut) return { uris: rows.flatMap(({ uri, isAffected }) => (isAffected ? [uri] : [])), beyond: [] }
  const most = room?.each ?? null
  return lookedAt(await sql.query<Look>(REPLIES_FROM_EACH, [...from, most]), most)
}

type Following = Touched<Post> & { entry: Entry<Post> }

function isFollowing(version: Touched<Post>): version is Following {
  return version.entry !== undefined && version.follows === true
}

/**
 * The time (TID) from which on replies may depend on this version. '': all replies, also when no earlier version is
 * remembered (a deletion may be known whose record never arrived).
 *
 * Replies that were written before this version are judged by the remembered earlier version, with the verdict that
 * they had while it lived. So they need not be judged again. Otherwise each edit of a post with 300,000 replies would
 * have all of them judged again, and a stranger may edit as often as they like.
 * @param end when the version before ended; '' when none is remembered
 */
function fromWhenOn({ entry, rev }: Touched, end: string): string {
  return entry && end < rev ? end : rev
}

/**
 * The versions that change nothing for the replies below them. The version before had the same root and parent and
 * lived until this one, and its claim to the thread has the same verdict.
 *
 * Without this, each edit of a text searched the whole thread for replies written since (2 s with 200,000 old replies).
 * When the author dated the edits before the replies, as anybody may, each edit also had all replies judged again (9 to
 * 16 s).
 */
async function whatIsInItsPlace(
  sql: Sql,
  following: readonly Following[],
  before: readonly Before[],
): Promise<ReadonlySet<Touched>> {
  const same = following.flatMap((version, i) => {
    const { isPlace, since, until } = before[i]!
    if (!isPlace || until < version.rev) return []
    return [{ version, asBefore: judgedOf(version.entry, since), asNow: judgedOf(version.entry, version.rev) }]
  })
  const facts = new LoadedFacts()
  const judged = same.flatMap(({ asBefore, asNow }) => [asBefore, asNow])
  await loadAncestors(sql, judged, 1, facts)
  const holds = (reply: Judged): boolean => reply.parent === null || !isReplyRootInvalid(reply, facts.parent(reply))
  return new Set(same.flatMap(({ version, asBefore, asNow }) => (holds(asBefore) === holds(asNow) ? [version] : [])))
}

/** The latest remembered version of a post that began before a given version. '' where none is remembered. */
interface Before {
  since: string
  until: string
  /** It has the same root and parent as the given version. */
  isPlace: boolean
}

async function versionsBefore(sql: Sql, versions: readonly Following[]): Promise<Before[]> {
  return await sql.query<Before>(BEFORE, [
    versions.map(({ uri }) => uri),
    versions.map(({ rev }) => rev),
    versions.map(({ entry: { record } }) => JSON.stringify(placeOf(record))),
  ])
}

/** In place of a URI: there are more ended versions of replies than there is room for, and these were not looked at. */
const CUT = ''

/**
 * The replies to `below.uri`: living replies, and ended versions of replies (`past_fact`). An ended version matters
 * because replies below it are judged through it.
 *
 * - LATERAL with OFFSET 0: the planner expects many rows from the recursion, and would read the whole table of posts
 *   for each batch to hash-join them.
 * - Each edit of a reply leaves a fact with the same parent. With 60 edits at each of four levels there were fourteen
 *   million paths down the thread. The UNION of the recursion removes the duplicates. (To remove them here, below each
 *   post, took a minute in a thread of 200,000 replies where the planner expected as many below each post.)
 * - An ended version does not count as a level. It is never derived again, so the search would not continue from it
 *   later.
 * - Of each post at most one reply more than there is room for is read.
 */
const REPLIES = `lateral (
        (select uri, 1 as levels, null as since from post where "replyParent" = below.uri limit $3::bigint + 1)
        union all
        select case when n > $3::bigint then '${CUT}' else uri end, case when n > $3::bigint then 4 else 0 end, since from (
          select uri, since, row_number() over () as n from past_fact
          where fact ->> 'parent' = below.uri and fact ->> 'parent' is not null limit $3::bigint + 1
        ) past
        offset 0
      ) reply`

/**
 * The LIMIT ends the recursion as soon as it has found more replies than there is room for, also in the middle of a
 * level.
 */
const LOOKED = `(select uri, time from below where depth > 0 limit $3::bigint + 1)`

/**
 * Reads one earlier version of each post, however often that post was edited. `past.key || ''` keeps the index on `key`
 * from being used: it would read all versions.
 */
const BEFORE: Statement = {
  name: 'affected-before',
  text: `
    select coalesce(past.since, '') as since, coalesce(past.until, '') as until, coalesce(past.place = version.place::jsonb, false) as "isPlace"
    from unnest($1::text[], $2::text[], $3::text[]) with ordinality as version (uri, rev, place, n)
    left join lateral (
      select since, until, fact - 'mentions' as place from past_fact past
      where past.uri = version.uri and past.since < version.rev and past.key || '' = version.uri order by since desc limit 1
    ) past on true
    order by n`,
}

/**
 * The replies below all of these posts, up to four levels further down: those that are affected, and how many were
 * looked at.
 */
const REPLIES_FROM: Statement = {
  name: 'affected-replies-from',
  text: `
    with recursive below (uri, time, depth) as (
      select uri, min(time), 0 from unnest($1::text[], $2::text[]) as above (uri, time) group by uri
      union
      select reply.uri, case when reply.since >= below.time then '' else below.time end, greatest(depth + reply.levels, 1) from (
        select uri, min(time) as time, depth from (select uri, time, depth from below where depth < 4 offset 0) level group by uri, depth
      ) below cross join ${REPLIES}
    )
    select uri, coalesce(${timeOf('found.uri')} >= time, false) as "isAffected", looked from (
      select uri, min(time) as time, (sum(count(*)) over ())::int as looked from ${LOOKED} looked group by uri
    ) found`,
}

/** The same below each post alone, with the room for each. */
const REPLIES_FROM_EACH: Statement = {
  name: 'affected-replies-from-each',
  text: `
    select above.uri, above.time, found.uris, found.looked from (
      select uri, min(time) as time from unnest($1::text[], $2::text[]) as above (uri, time) group by uri
    ) above cross join lateral (
      with recursive below (uri, time, depth) as (
        select above.uri, above.time, 0
        union
        select reply.uri, case when reply.since >= below.time then '' else below.time end, greatest(depth + reply.levels, 1) from (
          select uri, time, depth from below where depth < 4 offset 0
        ) below cross join ${REPLIES}
      )
      select array_agg(distinct looked.uri) filter (where ${timeOf('looked.uri')} >= looked.time) as uris,
        (count(*) + case when bool_or(looked.uri = '${CUT}') then $3::bigint else 0 end)::int as looked
      from ${LOOKED} looked
    ) found`,
}

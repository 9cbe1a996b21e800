/** Which replies have to be judged again, because of the place in a thread of what came or went above them. */
import type { Post } from '../app.bsky.feed/post.ts'
import type { Affected, Beyond, Entry, Room, Sql, Statement, Touched } from '../define.ts'
import { LoadedFacts } from './facts.ts'
import { isReplyRootInvalid, type Judged } from './judge.ts'
import { loadAncestors } from './load-facts.ts'
import { judgedOf, placeOf } from './posts.ts'
import { lookedAt, type Found, type Look } from './room.ts'
import { timeOf } from './when.ts'

/**
 * Below a new post all replies, below one that was deleted or follows another those that were written since; none below one that has the place of the version before it. Not
 * those that were derived with the batch.
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

/** Below all of them at once; only when there is not the room for all, below one after the other, to see which of them take it. */
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
 * From when on replies may hang on this version; '': always, as where none is remembered from before it, since what was deleted never came. What was written before one that
 * follows another is judged by what is remembered of that, as it was judged while that lived: an edit of a post with 300,000 replies would have each of them judged anew, and
 * a stranger may edit as often as they like.
 * @param end of the version before
 */
function fromWhenOn({ entry, rev }: Touched, end: string): string {
  return entry && end < rev ? end : rev
}

/**
 * Those by which nothing changes for what is below: the version before had the same place and lived until then, and the claim to a thread held then if it holds now. Without this
 * each edit of a text looked through the whole thread for replies written since (2 s where there were 200,000 old ones), and judged all of it (9 to 16 s) if its author
 * says that the edits are of before the replies, as anybody may.
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

/** The version that began last before another, of those that are remembered; '' where none is. */
interface Before {
  since: string
  until: string
  /** Where the other is. */
  isPlace: boolean
}

async function versionsBefore(sql: Sql, versions: readonly Following[]): Promise<Before[]> {
  return await sql.query<Before>(BEFORE, [
    versions.map(({ uri }) => uri),
    versions.map(({ rev }) => rev),
    versions.map(({ entry: { record } }) => JSON.stringify(placeOf(record))),
  ])
}

/** Stands for replies that are gone and were not looked at, where there were more than there is room for. */
const CUT = ''

/**
 * Replies to `below.uri` that live and replies that are gone: these still pass on what their parent is worth. LATERAL with OFFSET 0: the planner
 * takes the rows of a recursion for many, and would read the whole table of posts for each batch to join them by hash. Every edit of a reply leaves a fact with the same parent, and 60
 * edits at each of four levels were fourteen million ways down: the UNION of the recursion makes one of them. (Made here, below each post, that took a minute in a thread of 200,000
 * where the planner expected as many below each.)
 *
 * What is gone is no level: nothing of it changes from which it would be gone on later. Of one post one more than there is room for, at most.
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

/** So that a recursion ends as soon as there are more than there is room for, no level waits for its end. */
const LOOKED = `(select uri, time from below where depth > 0 limit $3::bigint + 1)`

/** One step back, however often that post was edited. Written so that the index on `key` cannot match: it would read all of them. */
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

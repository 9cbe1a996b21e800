/** Which replies have to be judged again, because of what came or went above them. */
import type { Post } from '../app.bsky.feed/post.ts'
import type { Entry, Sql, Statement, Touched } from '../define.ts'
import { LoadedFacts } from './facts.ts'
import { isReplyRootInvalid, type Judged } from './judge.ts'
import { loadAncestors } from './load-facts.ts'
import { factOfPost, judgedOf } from './posts.ts'
import { timeOf } from './when.ts'

export interface Found {
  uri: string
}

/**
 * Below a new post all replies, below one that was deleted or follows another those that were written since; none below one that says what the version before it said. Not
 * those that were derived with the batch.
 */
export async function affectedReplies(sql: Sql, touched: readonly Touched<Post>[]): Promise<Found[]> {
  const derived = touched.flatMap((version) => (version.entry && version.derived ? [version.uri] : []))
  const following = touched.filter(isFollowing)
  const before = following.length > 0 ? await versionsBefore(sql, following) : []
  const alike = before.length > 0 ? await whatSaysTheSame(sql, following, before) : new Set()
  const changing = touched.filter((version) => !alike.has(version) && version.passesOn !== false)
  if (changing.length === 0) return []
  const ends = new Map(following.map((version, i) => [version as Touched, before[i]!.until]))
  const from = changing.map((version) => fromWhenOn(version, ends.get(version) ?? ''))
  return await sql.query<Found>(REPLIES_FROM, [changing.map(({ uri }) => uri), from, derived])
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
 * Those by which nothing changes for what is below: the version before said the same and lived until then, and the claim to a thread held then if it holds now. Without this
 * each edit of a text looked through the whole thread for replies written since (2 s where there were 200,000 old ones), and judged all of it (9 to 16 s) if its author
 * says that the edits are of before the replies, as anybody may.
 */
async function whatSaysTheSame(
  sql: Sql,
  following: readonly Following[],
  before: readonly Before[],
): Promise<ReadonlySet<Touched>> {
  const same = following.flatMap((version, i) => {
    const { says, since, until } = before[i]!
    if (!says || until < version.rev) return []
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
  /** It said what the other says, of what is remembered. */
  says: boolean
}

async function versionsBefore(sql: Sql, versions: readonly Following[]): Promise<Before[]> {
  return await sql.query<Before>(BEFORE, [
    versions.map(({ uri }) => uri),
    versions.map(({ rev }) => rev),
    versions.map(({ entry }) => JSON.stringify(factOfPost(entry).fact)),
  ])
}

/**
 * Replies to `below.uri` that live and replies that are gone: these still pass on what their parent is worth. LATERAL with OFFSET 0: the planner
 * takes the rows of a recursion for many, and would read the whole table of posts for each batch to join them by hash. Each reply once (UNION): every edit of
 * one leaves a fact with the same parent, and 60 edits at each of four levels were fourteen million ways down.
 */
const REPLIES = `lateral (
        select uri from post where "replyParent" = below.uri
        union select uri from past_fact where fact ->> 'parent' = below.uri and fact ->> 'parent' is not null
        offset 0
      ) reply`

/** One step back, however often that post was edited. Written so that the index on `key` cannot match: it would read all of them. */
const BEFORE: Statement = {
  name: 'affected-before',
  text: `
    select coalesce(past.since, '') as since, coalesce(past.until, '') as until, coalesce(past.fact = version.fact::jsonb, false) as says
    from unnest($1::text[], $2::text[], $3::text[]) with ordinality as version (uri, rev, fact, n)
    left join lateral (
      select since, until, fact from past_fact past
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
      select reply.uri, below.time, depth + 1 from (
        select uri, min(time) as time, depth from (select uri, time, depth from below where depth < 4 offset 0) level group by uri, depth
      ) below cross join ${REPLIES}
    )
    select uri from (select uri, min(time) as time from below where depth > 0 group by uri) found
    where uri <> all($3::text[]) and (time = '' or ${timeOf('found.uri')} >= time)`,
}

/** Which replies have to be judged again, because of what came or went above them. */
import type { Sql, Statement, Touched } from '../define.ts'
import { timeOf } from './when.ts'

export interface Found {
  uri: string
}

/** Below a new post all replies, below one that was deleted or follows another those that were written since. Not those that were derived with the batch. */
export async function affectedReplies(sql: Sql, touched: readonly Touched[]): Promise<Found[]> {
  const derived = touched.flatMap((version) => (version.entry && version.derived ? [version.uri] : []))
  const from = await fromWhenOn(sql, touched)
  return await sql.query<Found>(REPLIES_FROM, [touched.map(({ uri }) => uri), from, derived])
}

/**
 * From when on replies may hang on each of these versions; '': always. What was written before one that follows another is judged by what is remembered of that, as it was
 * judged while that lived: an edit of a post with 300,000 replies would have each of them judged anew, and a stranger may edit as often as they like.
 */
async function fromWhenOn(sql: Sql, touched: readonly Touched[]): Promise<string[]> {
  const following = touched.filter(({ entry, follows }) => entry && follows)
  const ends = await endsBefore(sql, following)
  const from = new Map(following.map((version, i) => [version, ends[i]! < version.rev ? ends[i]! : version.rev]))
  return touched.map((version) => (version.entry ? (from.get(version) ?? '') : version.rev))
}

/**
 * When the last of the versions ended that are remembered from before each of these. '': none is, since what was deleted never came; then replies hang on what came after
 * the deletion, whenever they were written.
 */
async function endsBefore(sql: Sql, versions: readonly Touched[]): Promise<string[]> {
  if (versions.length === 0) return []
  const named = [versions.map(({ uri }) => uri), versions.map(({ rev }) => rev)]
  return (await sql.query<{ until: string }>(ENDS_BEFORE, named)).map(({ until }) => until)
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

const ENDS_BEFORE: Statement = {
  name: 'affected-ends-before',
  text: `
    select (
      select coalesce(max(until), '') from past_fact past where past.uri = version.uri and past.since < version.rev and past.key = version.uri
    ) as until
    from unnest($1::text[], $2::text[]) with ordinality as version (uri, rev, n) order by n`,
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

/**
 * Finds the replies that have to be judged again because the mentions of their root post changed. A thread gate may
 * admit the accounts that the root mentions, and the rule holds for replies at any depth of the thread.
 */
import type { Post } from '../app.bsky.feed/post-record.ts'
import type { Affected, Room, Sql, Statement, Touched } from '../depends.ts'
import { mentionsOf } from './load-facts.ts'
import { lookedAt, type Look } from './room.ts'

/**
 * Finds gated replies by accounts that one of these versions mentions and the version before it does not mention, or
 * the reverse. Leaves out replies that were derived with the batch. Where the version before is not known, finds all
 * gated replies of the thread.
 */
export async function affectedByMentions(
  sql: Sql,
  touched: readonly Touched<Post>[],
  room: Room | undefined,
): Promise<Affected> {
  const versions = touched.filter(({ passesOn }) => passesOn === undefined)
  const [known, others] = [true, false].map((is) => versions.filter((version) => isBeforeKnown(version) === is))
  const told = known!
    .map((version) => ({ ...version, mentions: [...new Set(mentionsOf(version.entry?.record ?? {}))] }))
    .filter(({ first, mentions }) => !first || mentions.length > 0)
  const most = room?.each ?? null
  const looks: Look[] = []
  if (told.length > 0) {
    const mentions = told.map((version) => JSON.stringify(version.mentions))
    const lives = told.map(({ entry }) => String(entry !== undefined))
    const [uris, revs] = [told.map(({ uri }) => uri), told.map(({ rev }) => rev)]
    looks.push(...(await sql.query<Look>(MENTIONED, [uris, revs, lives, mentions, most])))
  }
  if (others!.length > 0) {
    const from = others!.map(({ entry, rev }) => (entry ? '' : rev))
    looks.push(...(await sql.query<Look>(GATED_IN_THREAD, [others!.map(({ uri }) => uri), from, most])))
  }
  const { uris, beyond } = lookedAt(looks, most)
  const derived = new Set(versions.flatMap((version) => (version.entry && version.derived ? [version.uri] : [])))
  return { uris: uris.filter((uri) => !derived.has(uri)), beyond }
}

/**
 * Whether it is known with what to compare the version: with the remembered version before it (`follows`), or with
 * nothing (`first`). Otherwise the version after it may differ in its mentions too.
 */
function isBeforeKnown({ first, follows }: Touched): boolean {
  return first === true || follows === true
}

/**
 * Looks in `gated_reply` by mentioned account: most threads are never gated, and then the table has none of their
 * replies. Only versions of posts that have replies are looked at, since a batch may end thousands of posts with
 * thousands of mentions each. The mentions of the version before count only if that version was in force until this
 * one. `past.key || ''` keeps the index on `key` from being used: by that index, all remembered versions of the post
 * would be read.
 */
const MENTIONED: Statement = {
  name: 'affected-mentioned',
  text: `
    with told as materialized (
      select uri, min(time) as time, array_agg(did) as dids from (
        select distinct version.uri, whom.did, case when version.lives = 'false' then rev when before.until is null then '' else least(before.until, rev) end as time
        from (
          select uri, rev, lives, mentions from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as version (uri, rev, lives, mentions)
          where (select true from post where post."replyRoot" = version.uri limit 1) offset 0
        ) version
        left join lateral (
          select until, fact -> 'mentions' as mentions from past_fact past
          where past.uri = version.uri and past.since < version.rev and past.key || '' = version.uri order by since desc limit 1
        ) before on true
        cross join lateral (
          select did from (
            select jsonb_array_elements_text(version.mentions::jsonb) as did
            union all select jsonb_array_elements_text(case when before.until >= version.rev then before.mentions else '[]' end)
          ) either group by did having count(*) = 1
        ) whom
      ) version group by uri
    )
    select told.uri, told.time, reply.uris, reply.looked from told cross join lateral (
      select array_agg(distinct uri) filter (where at >= told.time and root = told.uri) as uris, count(*)::int as looked from (
        select reply.uri, reply.at, (select "replyRoot" from post where post.uri = reply.uri) as root
        from unnest(told.dids) as did cross join lateral (
          select uri, at from gated_reply where creator = did and owner = split_part(told.uri, '/', 3) offset 0
        ) reply
        limit $5::bigint + 1
      ) reply
    ) reply`,
}

/** All replies of a thread that were judged by a gate's rules. */
const GATED_IN_THREAD: Statement = {
  name: 'affected-gated-in-thread',
  text: `
    select root.uri, root.time, reply.uris, reply.looked from (
      select uri, min(time) as time from unnest($1::text[], $2::text[]) as root (uri, time) group by uri
    ) root cross join lateral (
      select array_agg(uri) filter (where (select at from gated_reply gated where gated.uri = post.uri) >= root.time) as uris, count(*)::int as looked
      from (select uri from post where "replyRoot" = root.uri limit $3::bigint + 1) post
    ) reply`,
}

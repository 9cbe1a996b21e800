/**
 * Finds the gated replies that have to be judged again because a relation began or ended: a follow, or a membership of
 * a list. A thread gate may admit the accounts that its owner follows, those that follow its owner, and the members of
 * a list.
 *
 * A relation counts from its own time on, as a gate does (`affected.ts`): only replies written then or later are found.
 * All replies that may depend on a relation are in `gated_reply`, by account and time.
 */
import { keyed } from '../by-key.ts'
import type { Affected, Asked, Sql, Statement, Touched } from '../depends.ts'
import type { Entry } from '../record.ts'
import { type Found, look } from './room.ts'
import { claimOfKey, writtenAt } from './when.ts'

/**
 * For follows, finds the gated replies of either account in threads of the other. When a follow of A is edited into a
 * follow of B, or deleted, the follow of A ends: then the gated replies between the follower and A are found too.
 */
export async function affectedByFollows(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  { room }: Asked,
): Promise<Affected> {
  return look(sql, BETWEEN, followsOf(touched), room?.each ?? null)
}

/** What `affectedByFollows` finds, in parts. */
export async function* affectedByFollowsInParts(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  atOnce: number,
): AsyncGenerator<string[]> {
  for (const { a, b, time } of await sql.query<Pair>(PAIRS, followsOf(touched))) {
    yield* gatedRepliesOf(sql, { creator: a, owner: b, time }, atOnce)
    yield* gatedRepliesOf(sql, { creator: b, owner: a, time }, atOnce)
  }
}

/**
 * Parameters of `BETWEEN` and `PAIRS`: URI, time and both accounts of each follow that begins; URI and time of each
 * path whose earlier follow ends.
 */
function followsOf(touched: readonly Touched<{ subject: string }>[]): unknown[] {
  const made = touched.flatMap(({ uri, entry, claims }) =>
    entry ? [{ uri, a: entry.did, b: entry.record.subject, since: keyTime(entry, claims) }] : [],
  )
  return [
    made.map(({ uri }) => uri),
    made.map(({ since }) => since),
    made.map(({ a }) => a),
    made.map(({ b }) => b),
    ...ending(touched),
  ]
}

/**
 * For list items, finds the gated replies of the member, and of the account that the list item named before it was
 * edited or deleted.
 */
export async function affectedByListItems(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  { room }: Asked,
): Promise<Affected> {
  return look(sql, BY_MEMBER, itemsOf(touched), room?.each ?? null)
}

/** What `affectedByListItems` finds, in parts. */
export async function* affectedByListItemsInParts(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  atOnce: number,
): AsyncGenerator<string[]> {
  for (const { member, time } of await sql.query<Member>(MEMBERS, itemsOf(touched)))
    yield* gatedRepliesOf(sql, { creator: member, time }, atOnce)
}

/** Parameters of `BY_MEMBER` and `MEMBERS`: as those of follows (`followsOf`), with one account. */
function itemsOf(touched: readonly Touched<{ subject: string }>[]): unknown[] {
  const made = touched.flatMap(({ uri, entry, claims }) =>
    entry ? [{ uri, member: entry.record.subject, since: keyTime(entry, claims) }] : [],
  )
  return [
    made.map(({ uri }) => uri),
    made.map(({ since }) => since),
    made.map(({ member }) => member),
    ...ending(touched),
  ]
}

/**
 * The replies of `creator` that were judged by a gate's rules and written at `time` or later; with `owner`, only those
 * in threads of that account. Each query looks at `atOnce` replies.
 */
async function* gatedRepliesOf(
  sql: Sql,
  { creator, owner, time }: { creator: string; owner?: string; time: string },
  atOnce: number,
): AsyncGenerator<string[]> {
  let [at, uri] = [time, '']
  for (;;) {
    const rows = await sql.query<Found & { at: string; owner: string }>(GATED_SINCE, [creator, at, uri, atOnce])
    const uris = rows.flatMap((row) => (owner === undefined || row.owner === owner ? [row.uri] : []))
    if (uris.length > 0) yield uris
    if (rows.length < atOnce) return
    ;({ at, uri } = rows.at(-1)!)
  }
}

/**
 * Paths on which an earlier version may end, and the time at which it ends. Without the first versions of paths of
 * which the index knew nothing before.
 */
function ending(touched: readonly Touched[]): [uris: string[], times: string[]] {
  const all = touched.filter(({ entry, first }) => !(entry && first))
  return [all.map(({ uri }) => uri), all.map(({ entry, rev }) => (entry ? keyTime(entry) : rev))]
}

/** When the version began. @param claims it may have counted from when it says, if that is earlier */
function keyTime({ uri, rev, live, createdAt }: Entry, claims = false): string {
  return writtenAt({ rev, live: live && !claims }, claimOfKey(uri, createdAt))
}

/**
 * The accounts that earlier versions of these records named, taken from the keys of remembered facts
 * (`follow <follower> <followed>`, `listitem <list> <member>`). Only facts that were in force at the time when the
 * version ended: a fact that had ended before that does not change. Of several ends of one record in a batch the
 * earliest counts.
 */
const remembered = (uris: string, times: string): string => `
        select gone.uri, gone.time, split_part(past.key, ' ', 2) as a, split_part(past.key, ' ', 3) as b
        from (select uri, min(time) as time from unnest(${uris}::text[], ${times}::text[]) as version (uri, time) group by uri) gone
        join past_fact past on ${keyed('past.uri', 'gone.uri')} and past.until >= gone.time`

interface Pair {
  a: string
  b: string
  time: string
}

/**
 * Each pair of accounts once, with its earliest time. Without grouping, 8,000 follows of one pair (each with another
 * record key) times 10,000 replies gave eighty million rows. List items likewise.
 */
const EACH_PAIR = `
      select a, b, min(time) as time, min(uri) as uri from (
        select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as follow (uri, time, a, b)
        union all ${remembered('$5', '$6')}
      ) follow group by a, b`

const PAIRS: Statement = { name: 'affected-pairs', text: `select a, b, time from (${EACH_PAIR}) pair` }

const BETWEEN: Statement = {
  name: 'affected-between',
  text: `
    with pair as materialized (${EACH_PAIR}
    )
    select pair.uri, time, reply.uris, reply.looked from pair cross join lateral (
      select array_agg(distinct uri) filter (where at >= time) as uris, count(*)::int as looked from (
        (select uri, at from gated_reply where creator = a and owner = b limit $7::bigint + 1)
        union all (select uri, at from gated_reply where creator = b and owner = a limit $7::bigint + 1)
      ) reply
    ) reply`,
}

interface Member {
  member: string
  time: string
}

const EACH_MEMBER = `
      select member, min(time) as time, min(uri) as uri from (
        select * from unnest($1::text[], $2::text[], $3::text[]) as item (uri, time, member)
        union all select uri, time, b from (${remembered('$4', '$5')}) remembered
      ) item group by member`

const MEMBERS: Statement = { name: 'affected-members', text: `select member, time from (${EACH_MEMBER}) item` }

/**
 * An account that is put on a list now may have many replies from before, and has none since. So replies are read by
 * time, in the order of the index over account and time.
 */
const BY_MEMBER: Statement = {
  name: 'affected-by-member',
  text: `
    with item as materialized (${EACH_MEMBER}
    )
    select item.uri, time, reply.uris, reply.looked from item cross join lateral (
      select array_agg(uri) as uris, count(*)::int as looked from (
        select uri from gated_reply where creator = member and at >= time order by at limit $6::bigint + 1
      ) reply
    ) reply`,
}

/**
 * Reads replies one by one in the order of the index (migration 0014), by recursion. A single query with ORDER BY and
 * LIMIT would read and sort all of the account's replies when the planner expects few of them.
 */
const GATED_SINCE: Statement = {
  name: 'gated-since',
  text: `
    with recursive part (uri, at, owner, n) as (
      select null::varchar, $2::varchar, null::varchar, 0
      union all
      select next.uri, next.at, next.owner, n + 1 from part cross join lateral (
        select uri, at, owner from gated_reply reply
        where reply.creator = $1 and (reply.at, reply.uri || '') > (part.at, coalesce(part.uri, $3::text)) order by reply.at, reply.uri || '' limit 1
      ) next where n < $4::bigint
    )
    select uri, at, owner from part where n > 0 order by n`,
}

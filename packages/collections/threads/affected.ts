/**
 * Which posts have to be judged again, because something arrived late: after them, although it was true when they were written.
 *
 * In the natural order nothing is found here. The probes are by index, and the time of a post keeps posts out that were written before.
 * They also find what two consumers did to each other at the same moment, since they run after the commit.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Post } from '../app.bsky.feed/post.ts'
import { keyed, oneOfKey } from '../by-key.ts'
import type { Affected, Entry, Room, Sql, Statement, Touched, Unseen } from '../define.ts'
import { LoadedFacts } from './facts.ts'
import { listItemKey } from './gates.ts'
import { loadGates } from './load-facts.ts'
import { affectedByMentions } from './mentioned.ts'
import { affectedReplies } from './replies.ts'
import { type Found, all, look } from './room.ts'
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
  const judged = unseen === 'nothing' ? [] : await judgedBeside(sql, touched, unseen)
  const since = unseen === 'nothing' ? null : unseen.since
  return collect([
    touched.length > 0 && affectedReplies(sql, touched, room),
    touched.length > 0 && affectedByMentions(sql, touched, room),
    judged.length > 0 && all(sql.query<Found>(OVERTAKEN, [judged, since])),
    judged.length > 0 && all(overtakenOnLists(sql, judged, since)),
  ])
}

/**
 * Those that may have been judged without seeing what others wrote at the same moment, who did not see them: what is new or changed; and what a gate judged for the first time, since
 * whoever makes a follow or ends it finds it by that alone.
 */
async function judgedBeside(
  sql: Sql,
  touched: readonly Touched[],
  { own }: Exclude<Unseen, 'nothing'>,
): Promise<string[]> {
  const [same, others] = [true, false].map((is) =>
    touched.flatMap((version) => (version.entry && (version.same === true) === is ? [version.uri] : [])),
  )
  if (same!.length === 0 || own === undefined) return others!
  const gated = await sql.query<Found>(GATED_NOW, [same, own])
  return [...others!, ...gated.map(({ uri }) => uri)]
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
  return collect([look(sql, after, gates, most), all(sql.query<Found>(POSTS, [posts]))])
}

/** For follows: gated replies between the two accounts that were judged by whether they follow each other. */
export async function affectedByFollows(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  const made = touched.flatMap(({ uri, entry }) =>
    entry ? [{ uri, a: entry.did, b: entry.record.subject, since: keyTime(entry) }] : [],
  )
  const ended = touched.filter(({ entry }) => !entry)
  const most = room?.each ?? null
  const [a, b] = [made.map((m) => m.a), made.map((m) => m.b)]
  return collect([
    made.length > 0 && look(sql, BETWEEN, [made.map((m) => m.uri), made.map((m) => m.since), a, b], most),
    ended.length > 0 && look(sql, BETWEEN_ENDED, [ended.map(({ uri }) => uri), ended.map(({ rev }) => rev)], most),
  ])
}

/** For list items: gated replies of the member. */
export async function affectedByListItems(
  sql: Sql,
  touched: readonly Touched<{ subject: string }>[],
  _unseen: Unseen,
  room?: Room,
): Promise<Affected> {
  const made = touched.flatMap(({ uri, entry }) =>
    entry ? [{ uri, member: entry.record.subject, since: keyTime(entry) }] : [],
  )
  const ended = touched.filter(({ entry }) => !entry)
  const most = room?.each ?? null
  return collect([
    made.length > 0 &&
      look(sql, BY_MEMBER, [made.map((m) => m.uri), made.map((m) => m.since), made.map((m) => m.member)], most),
    ended.length > 0 && look(sql, BY_MEMBER_ENDED, [ended.map(({ uri }) => uri), ended.map(({ rev }) => rev)], most),
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

function keyTime(entry: Entry): string {
  return writtenAt(entry, claimOfKey(entry.uri, entry.createdAt))
}

/**
 * Whether a row may have been written since that moment: an xid is young when its age is low; frozen rows are the oldest of all. Moments are xid8, whose text an xid
 * refuses after the server's first 2^32 transactions.
 */
const since = (row: string): string => `($2::text is null or age(${row}.xmin) <= age($2::text::xid8::xid))`

/**
 * Posts of the batch of whose ancestors, gates or follows another transaction wrote or ended one that the batch may not have seen. What many of them share
 * (a parent, a gate, an owner) is looked at once for all, since there is a past fact for each of its edits: so the recursion takes its posts together at
 * each level, which PostgreSQL allows one query further in. Whom the root mentions counts where a gate judges, however far above it is.
 */
const OVERTAKEN: Statement = {
  name: 'affected-overtaken',
  text: `
    with recursive judged as materialized (select uri, "replyParent", "replyRoot" from post where uri = any($1::text[])),
    quoting as materialized (select uri, subject from quote where uri = any($1::text[])),
    gated as materialized (select uri, creator, owner from gated_reply where uri = any($1::text[])),
    above (uris, parent, depth) as (
      (
        select array_agg(uri), "replyParent", 1 from judged where "replyParent" is not null group by "replyParent"
        union all select array_agg(gated.uri), post."replyRoot", 5 from gated
          cross join lateral (select "replyRoot" from post where post.uri = gated.uri offset 0) post
          where post."replyRoot" is not null group by post."replyRoot"
      )
      union
      select below.uris, known.parent, depth + 1 from (
        select array_agg(distinct uri) as uris, parent, depth from (
          select uri, parent, depth from above cross join unnest(uris) as uri where depth < 5 offset 0
        ) level group by parent, depth
      ) below cross join lateral (
        select distinct parent from (
          select "replyParent" as parent, "replyRoot" as root from post where post.uri = below.parent
          union all select fact ->> 'parent', null from past_fact past where past.uri = below.parent
          offset 0
        ) version
      ) known where known.parent is not null
    ), asked (uris, key) as materialized (
      select array_agg(uri), key from (
        select uri, 'threadgate ' || coalesce("replyRoot", uri) as key from judged
        union all select uri, 'postgate ' || subject from quoting
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
    union select judged.uri from judged join thread_gate gate on ${keyed('gate."postUri"', 'coalesce(judged."replyRoot", judged.uri)')}
    where ${since('gate')}
    union select quoting.uri from quoting join post_gate gate on ${keyed('gate."postUri"', 'quoting.subject')}
    where ${since('gate')}
    union select gated.uri from gated
    cross join lateral (values (gated.owner, gated.creator), (gated.creator, gated.owner)) as pair (a, b)
    cross join lateral (select xmin from follow ${oneOfKey({ 'follow.creator': 'pair.a', 'follow."subjectDid"': 'pair.b' })}) follow
    where ${since('follow')}`,
}

const GATED_NOW: Statement = {
  name: 'affected-gated-now',
  text: `select uri from gated_reply where uri = any($1::text[]) and xmin = $2::xid8::xid`,
}

const GATED: Statement = {
  name: 'affected-gated',
  text: `
    select gated.uri, gated.creator, post."replyRoot" as root, gated.at from gated_reply gated
    cross join lateral (select "replyRoot" from post where post.uri = gated.uri offset 0) post
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
      select from (
        select xmin from list_item item ${oneOfKey({ 'item."listUri"': 'asked.list', 'item."subjectDid"': 'asked.member' })}
      ) item where ${since('item')}
      union all select from past_fact past where past.key = asked.key and ${since('past')}
      limit 1
    ) young`,
}

const POSTS: Statement = { name: 'affected-posts', text: `select uri from post where uri = any($1::text[])` }

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

/** Of pairs, with what is remembered of which follow they are asked for. */
const repliesBetween = (most: string): string => `
    select pair.uri, time, reply.uris, reply.looked from pair cross join lateral (
      select array_agg(distinct uri) filter (where at >= time) as uris, count(*)::int as looked from (
        (select uri, at from gated_reply where creator = a and owner = b limit ${most}::bigint + 1)
        union all (select uri, at from gated_reply where creator = b and owner = a limit ${most}::bigint + 1)
      ) reply
    ) reply`

/** Each pair once, with its first time: 8,000 follows of one pair, each of another key, times 10,000 replies were eighty million rows. So with list items. */
const BETWEEN: Statement = {
  name: 'affected-between',
  text: `
    with pair as materialized (
      select a, b, min(time) as time, min(uri) as uri
      from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as follow (uri, time, a, b) group by a, b
    ) ${repliesBetween('$5')}`,
}

/** Of several ends of one record the first. */
const ENDS = `(select uri, min(time) as time from unnest($1::text[], $2::text[]) as version (uri, time) group by uri)`

/** Ended follows and list items are named by what is remembered of them: `follow <follower> <followed>`, `listitem <list> <member>`. */
const BETWEEN_ENDED: Statement = {
  name: 'affected-between-ended',
  text: `
    with pair as materialized (
      select split_part(past.key, ' ', 2) as a, split_part(past.key, ' ', 3) as b, min(gone.time) as time, min(gone.uri) as uri
      from ${ENDS} gone join past_fact past on ${keyed('past.uri', 'gone.uri')} group by 1, 2
    ) ${repliesBetween('$3')}`,
}

const repliesOf = (most: string): string => `
    select item.uri, time, reply.uris, reply.looked from item cross join lateral (
      select array_agg(uri) filter (where at >= time) as uris, count(*)::int as looked
      from (select uri, at from gated_reply where creator = member limit ${most}::bigint + 1) reply
    ) reply`

const BY_MEMBER: Statement = {
  name: 'affected-by-member',
  text: `
    with item as materialized (
      select member, min(time) as time, min(uri) as uri from unnest($1::text[], $2::text[], $3::text[]) as item (uri, time, member) group by member
    ) ${repliesOf('$4')}`,
}

const BY_MEMBER_ENDED: Statement = {
  name: 'affected-by-member-ended',
  text: `
    with item as materialized (
      select split_part(past.key, ' ', 3) as member, min(gone.time) as time, min(gone.uri) as uri
      from ${ENDS} gone join past_fact past on ${keyed('past.uri', 'gone.uri')} group by 1
    ) ${repliesOf('$3')}`,
}

/**
 * Posts that were judged while others wrote what they are judged by: two transactions that run at once do not see each other. In the natural order, and with a single consumer, there are none.
 */
import { keyed, oneOfKey } from '../by-key.ts'
import type { Affected, Sql, Statement, Touched, Unseen } from '../define.ts'
import { LoadedFacts, PAST_LEVELS_MAX } from './facts.ts'
import { listItemKey } from './gates.ts'
import { loadGates } from './load-facts.ts'
import type { Found } from './room.ts'

/** Which of these, of what others wrote since then. */
export async function overtaken(
  sql: Sql,
  touched: readonly Touched[],
  unseen: Exclude<Unseen, 'nothing'>,
): Promise<Affected> {
  const judged = await judgedBeside(sql, touched, unseen)
  if (judged.length === 0) return { uris: [], beyond: [] }
  const found = await Promise.all([
    sql.query<Found>(OVERTAKEN, [judged, unseen.since]),
    overtakenOnLists(sql, judged, unseen.since),
  ])
  return { uris: found.flat().map(({ uri }) => uri), beyond: [] }
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

/**
 * Whether a row may have been written since that moment: an xid is young when its age is low; frozen rows are the oldest of all. Moments are xid8, whose text an xid
 * refuses after the server's first 2^32 transactions.
 */
const since = (row: string): string => `($2::text is null or age(${row}.xmin) <= age($2::text::xid8::xid))`

/** Whether one that says the same and waits for it may have been written since that moment. */
const isWaitingSince = (holder: string): string =>
  `(select true from duplicate_record waiting where waiting."duplicateOf" = ${holder}.uri and ${since('waiting')} limit 1)`

/** So many ancestors of as many posts are looked at, those that two share counted twice: more than one line of gone ones for each, as long as judging follows it. */
const ABOVE_MAX = `1000 + ${PAST_LEVELS_MAX + 10} * count(*)`

/**
 * Posts of the batch of whose ancestors, gates or follows another transaction wrote or ended one that the batch may not have seen. What many of them share
 * (a parent, a gate, an owner) is looked at once for all, since there is a past fact for each of its edits: so the recursion takes its posts together at
 * each level, which PostgreSQL allows one query further in. What comes of a level is a row for each post and what is above it: that is what the limit counts, and UNION holds
 * in memory all rows that there have been. Whom the root mentions counts where a gate judges, however far above it is.
 *
 * Of each post the root is asked for as well: without it the index of answers tells all that is wanted, and is read from end to end where the planner believes it to be small.
 *
 * What is gone is no level: what changes above it is not passed on by it. Anybody can put any number of these above a reply: where that is more than is looked at, all are judged again, for which
 * the one version of each that counts at the time is read.
 */
const OVERTAKEN: Statement = {
  name: 'affected-overtaken',
  text: `
    with recursive judged as materialized (select uri, "replyParent", "replyRoot" from post where uri = any($1::text[])),
    quoting as materialized (select uri, subject from quote where uri = any($1::text[])),
    gated as materialized (select uri, creator, owner from gated_reply where uri = any($1::text[])),
    above (uri, parent, depth) as (
      (
        select uri, "replyParent", 1 from judged where "replyParent" is not null
        union all select gated.uri, post."replyRoot", 5 from gated
          cross join lateral (select "replyRoot" from post where post.uri = gated.uri offset 0) post
          where post."replyRoot" is not null
      )
      union
      select unnest(below.uris), known.parent, depth + known.levels from (
        select array_agg(uri) as uris, parent, depth from (
          select uri, parent, depth from above where depth < 5 offset 0
        ) level group by parent, depth
      ) below cross join lateral (
        select parent, min(levels) as levels from (
          select "replyParent" as parent, 1 as levels, "replyRoot" as root from post where post.uri = below.parent
          union all select fact ->> 'parent', 0, null from past_fact past where past.uri = below.parent
          offset 0
        ) version group by parent
      ) known where known.parent is not null
    ), looked as materialized (
      select uri, parent from above limit (select ${ABOVE_MAX} from judged)
    ), asked (uris, key) as materialized (
      select array_agg(uri), key from (
        select uri, 'threadgate ' || coalesce("replyRoot", uri) as key from judged
        union all select uri, 'postgate ' || subject from quoting
        union all select uri, 'follow ' || owner || ' ' || creator from gated
        union all select uri, 'follow ' || creator || ' ' || owner from gated
      ) judged_by group by key
    )
    select unnest(above.uris) as uri from (
      select array_agg(distinct uri) as uris, parent from looked group by parent
    ) above cross join lateral (
      select from post where post.uri = above.parent and ${since('post')}
      union all select from past_fact past where past.uri = above.parent and ${since('past')}
      limit 1
    ) young
    union select uri from judged where (select count(*) from looked) >= (select ${ABOVE_MAX} from judged)
    union select unnest(asked.uris) from asked cross join lateral (
      select from past_fact past where past.key = asked.key and ${since('past')} limit 1
    ) young
    union select judged.uri from judged join thread_gate gate on ${keyed('gate."postUri"', 'coalesce(judged."replyRoot", judged.uri)')}
    where ${since('gate')}
    union select quoting.uri from quoting join post_gate gate on ${keyed('gate."postUri"', 'quoting.subject')}
    where ${since('gate')}
    union select gated.uri from gated
    cross join lateral (values (gated.owner, gated.creator), (gated.creator, gated.owner)) as pair (a, b)
    cross join lateral (select uri, xmin from follow ${oneOfKey({ 'follow.creator': 'pair.a', 'follow."subjectDid"': 'pair.b' })}) follow
    where ${since('follow')} or ${isWaitingSince('follow')}`,
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
        select uri, xmin from list_item item ${oneOfKey({ 'item."listUri"': 'asked.list', 'item."subjectDid"': 'asked.member' })}
      ) item where ${since('item')} or ${isWaitingSince('item')}
      union all select from past_fact past where past.key = asked.key and ${since('past')}
      limit 1
    ) young`,
}

/**
 * Finds posts that were judged while another transaction wrote a record that the verdict depends on.
 *
 * Two transactions that run at the same time do not see each other. Example: one inserts a reply, the other inserts the
 * thread gate. The reply is judged without the gate, and the gate's transaction does not find the reply. After their
 * commits, each looks for what it could not see; the one that looks last finds the other's record. With a single
 * consumer nothing is found.
 */
import { keyed, oneOfKey } from '../by-key.ts'
import type { Affected, Sql, Statement, Touched, Unseen } from '../depends.ts'
import { LoadedFacts, PAST_LEVELS_MAX } from './facts.ts'
import { listItemKey } from './gates.ts'
import { loadGates } from './load-facts.ts'
import type { Found } from './room.ts'

/** Of the touched posts, those whose verdict may depend on rows that our transaction did not see (`unseen`). */
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
 * The touched posts that another transaction may have missed, as ours may have missed its records. These are all posts
 * but those that were derived again without a change. Of the latter, a reply counts if our transaction wrote its row of
 * `gated_reply`: another transaction that makes or ends a follow finds gated replies by that row alone.
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
 * Finds the posts of the batch whose author another transaction added to a list that the post's gate names, or removed
 * from it. The list may be of any account. Each pair of list and member is looked up by itself: by member alone, an
 * account on ten thousand lists would have all of them read for each reply.
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
 * SQL condition: the row may have been written since the moment `$2` (an xid8 as text, or null: always true). A younger
 * xid has a lower age, and frozen rows have the highest age. The cast goes through xid8: the text of an xid8 is no
 * valid xid after the server's first 2^32 transactions.
 */
const since = (row: string): string => `($2::text is null or age(${row}.xmin) <= age($2::text::xid8::xid))`

/**
 * SQL condition: a duplicate of the record `holder` (in `duplicate_record`) may have been written since the moment
 * `$2`.
 */
const isWaitingSince = (holder: string): string =>
  `(select true from duplicate_record waiting where waiting."duplicateOf" = ${holder}.uri and ${since('waiting')} limit 1)`

/**
 * The limit of rows (post, ancestor) that are looked at for `count(*)` posts. An ancestor that two posts share counts
 * twice. For each post there is room for more than one chain of deleted ancestors of the length that judging follows.
 */
const ABOVE_MAX = `1000 + ${PAST_LEVELS_MAX + 10} * count(*)`

/**
 * Posts of the batch ($1) for which another transaction wrote or ended an ancestor, a gate or a follow that the batch
 * may not have seen.
 *
 * - Posts share parents, gates and owners, and a shared record has a past fact for each of its edits. So each is looked
 *   at once for all posts: the recursion groups its posts by parent at each level. PostgreSQL allows the aggregate only
 *   in a subquery of the recursive term.
 * - Each level produces a row for each pair of post and ancestor. The limit (ABOVE_MAX) counts these rows, since UNION
 *   keeps all of them in memory.
 * - For gated replies the root is an ancestor at any depth: the gate may admit the accounts that the root mentions.
 *   Depth 5 ends the recursion there.
 * - `"replyRoot"` is selected although nobody reads it: `post_replyparent_idx` would otherwise suffice, and is read
 *   from end to end where the planner believes it to be small.
 * - A deleted or edited version (`past_fact`) does not count as a level: it is never derived again, so a change above
 *   it reaches the reply directly. Anybody can put any number of these above a reply. When the limit is reached, all
 *   posts of the batch are judged again; judging reads only the one version of each ancestor that counts at the time.
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

/** Replies whose row in `gated_reply` our own transaction wrote. */
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

/**
 * Each pair of list and member is looked at once for all replies: there is a past fact for each time that the member
 * was taken off the list.
 */
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

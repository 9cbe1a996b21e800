/** Derives the columns and notifications of posts that depend on other records: the parent, gates, follows, lists. */
import { didOfUri } from '@sluice/events/stream-event.ts'
import { quoted } from '../app.bsky.feed/post-embeds.ts'
import type { Post } from '../app.bsky.feed/post-record.ts'
import { notify } from '../define.ts'
import type { Fact, Sql, Statement } from '../depends.ts'
import type { Entry, Notification, Written } from '../record.ts'
import { LoadedFacts, type PastPost } from './facts.ts'
import { loadAncestors, loadFacts, mentionsOf } from './load-facts.ts'
import { judge, type Judged, type Verdict } from './judge.ts'
import { claimOfKey, writtenAt } from './when.ts'

/** Authors of the posts up to this many levels above a reply are notified of it. The official AppView's number. */
const REPLY_NOTIFICATION_LEVELS = 4

/**
 * Sets the derived columns of posts, and resolves to the notifications of each post by URI. As in the official AppView,
 * `invalidReplyRoot` and `violatesThreadGate` are set together, and only when one of them is true.
 */
export async function derivePosts(sql: Sql, written: readonly Written<Post>[]): Promise<Map<string, Notification[]>> {
  const facts = new LoadedFacts()
  const times = await rememberedTimes(sql, written)
  const judged = new Map(written.map(({ entry }) => [entry.uri, judgedOf(entry, times.get(entry.uri))]))
  facts.expect(judged.keys(), () => {})
  await Promise.all([loadOutside(sql, judged, facts), markGated(sql, written)])
  const verdicts = new Map<string, Verdict>()
  judgeAll(judged, facts, verdicts)
  const gated: Judged[] = []
  for (const { entry, rows } of written) {
    const verdict = verdicts.get(entry.uri)!
    const post = judged.get(entry.uri)!
    const { values } = rows[0]!
    if (verdict.invalidReplyRoot || verdict.violatesThreadGate) {
      values.invalidReplyRoot = verdict.invalidReplyRoot
      values.violatesThreadGate = verdict.violatesThreadGate
    }
    if (verdict.violatesEmbeddingRules) values.violatesEmbeddingRules = true
    if (isGated(post, facts)) gated.push(post)
  }
  if (gated.length > 0) await rememberGated(sql, gated)
  return notifyOfPosts(sql, written, judged, facts)
}

/**
 * Posts for which `derivePosts` may set a column or make a notification: replies and quotes (only these have verdicts,
 * `judge.ts`), posts with a gate (they are marked), and posts with mentions. About half of a network's posts are none
 * of these.
 *
 * A record's JSON may write `#mention` with `\u` escapes, so every record with such an escape is selected too. The
 * subqueries use LIMIT 1 and not EXISTS: for EXISTS, PostgreSQL would read and hash all quotes and all gates for each
 * page.
 */
export const DERIVABLE_POSTS: Statement = {
  name: 'derivable-posts',
  text: `
    select uri from post where uri > $1 and uri <= $2 and (
      "replyRoot" is not null or "replyParent" is not null
      or "invalidReplyRoot" is not null or "violatesThreadGate" is not null or "violatesEmbeddingRules" is not null
      or "hasThreadGate" is not null or "hasPostGate" is not null
      or (select true from quote where quote.uri = post.uri limit 1)
      or (select true from thread_gate gate where gate."postUri" = post.uri limit 1)
      or (select true from post_gate gate where gate."postUri" = post.uri limit 1)
      or (select position('#mention' in json) > 0 or position('\\u' in json) > 0 from record where record.uri = post.uri)
    ) order by uri`,
}

/**
 * A reply is found through its parent. Selects `creator`, which nobody reads, for the reason given at `POSTS`
 * (`affected.ts`): `post_replyparent_idx` lacks that column.
 */
export const ABOVE_POSTS: Statement = {
  name: 'above-posts',
  text: `select uri, "replyParent" as above, creator from post where uri = any($1::text[])`,
}

/**
 * @param remembered the time by which the post was judged before (`gated_reply`); undefined: take the time from the
 * record
 */
export function judgedOf(
  { uri, did, rev, live, record, createdAt }: Entry<Post>,
  remembered: string | undefined,
): Judged {
  return {
    uri,
    did,
    root: record.reply?.root.uri ?? null,
    parent: record.reply?.parent.uri ?? null,
    quotes: quoted(record.embed)?.uri ?? null,
    at: remembered ?? writtenAt({ rev, live }, claimOfKey(uri, createdAt)),
  }
}

/** Loads the facts about records that are not in the batch itself. */
async function loadOutside(sql: Sql, judged: ReadonlyMap<string, Judged>, facts: LoadedFacts): Promise<void> {
  const posts = [...judged.values()].filter((p) => p.parent !== null || p.quotes !== null)
  if (posts.length > 0) await loadFacts(sql, posts, facts)
}

/**
 * Judges each post of the batch after its parent, if the batch has the parent too. Replies in a circle are judged from
 * the reply at which the circle is entered.
 */
function judgeAll(judged: ReadonlyMap<string, Judged>, facts: LoadedFacts, verdicts: Map<string, Verdict>): void {
  const begun = new Set<string>()
  const judgeWithParents = (uri: string): void => {
    const line: Judged[] = []
    for (let p = judged.get(uri); p && !begun.has(p.uri); p = judged.get(p.parent ?? '')) {
      begun.add(p.uri)
      line.push(p)
    }
    for (const p of line.reverse()) {
      facts.addPost({ uri: p.uri, root: p.root, parent: p.parent, invalidReplyRoot: false })
      const verdict = judge(p, facts)
      verdicts.set(p.uri, verdict)
      facts.addPost({ uri: p.uri, root: p.root, parent: p.parent, invalidReplyRoot: verdict.invalidReplyRoot })
    }
  }
  facts.expect(judged.keys(), judgeWithParents)
  for (const uri of judged.keys()) judgeWithParents(uri)
}

/**
 * Sets `hasThreadGate` and `hasPostGate`. A gate belongs to the post's own account, which this batch owns, so no other
 * transaction can write the gate at the same moment.
 */
async function markGated(sql: Sql, written: readonly Written<Post>[]): Promise<void> {
  const rows = await sql.query<{ uri: string; thread: boolean; post: boolean }>(GATED, [
    written.map(({ entry }) => entry.uri),
  ])
  const gates = new Map(rows.map((row) => [row.uri, row]))
  for (const {
    entry,
    rows: [row],
  } of written) {
    const gate = gates.get(entry.uri)
    row!.values.hasThreadGate = gate?.thread ?? null
    row!.values.hasPostGate = gate?.post ?? null
  }
}

const GATED: Statement = {
  name: 'gated-posts',
  text: `
    select uri, bool_or(gate = 'thread') as thread, bool_or(gate = 'post') as post from (
      select "postUri" as uri, 'thread' as gate from thread_gate where "postUri" = any($1::text[])
      union all select "postUri", 'post' from post_gate where "postUri" = any($1::text[])
      offset 0
    ) gated group by uri`,
}

/** Whether this reply was judged by a gate's rules. */
function isGated(post: Judged, facts: LoadedFacts): boolean {
  return post.root !== null && didOfUri(post.root) !== post.did && !!facts.threadGate(post.root, post.at)?.allow
}

/**
 * Writes gated replies to `gated_reply`, so that follows and list items which arrive late find them. Keeps the time by
 * which each reply was first judged, and never replaces it. Otherwise the next follow would have the reply judged again
 * by the time that its record key claims, and an author who makes up an early key would get past the gate.
 */
async function rememberGated(sql: Sql, gated: readonly Judged[]): Promise<void> {
  await sql.query(REMEMBER_GATED, [
    gated.map((p) => p.uri),
    gated.map((p) => p.did),
    gated.map((p) => didOfUri(p.root!)),
    gated.map((p) => p.at),
  ])
}

const REMEMBER_GATED: Statement = {
  name: 'remember-gated',
  text: `
    insert into gated_reply (uri, creator, owner, at) select * from unnest($1::text[], $2::text[], $3::text[], $4::text[])
    on conflict (uri) do nothing`,
}

/**
 * The times by which these posts were judged before, by URI. Only for records from exports: a live commit's rev tells
 * the time itself.
 */
async function rememberedTimes(sql: Sql, written: readonly Written<Post>[]): Promise<Map<string, string>> {
  const uris = written.flatMap(({ entry }) => (entry.live ? [] : [entry.uri]))
  if (uris.length === 0) return new Map()
  const rows = await sql.query<{ uri: string; at: string }>(REMEMBERED_TIMES, [uris])
  return new Map(rows.map(({ uri, at }) => [uri, at]))
}

const REMEMBERED_TIMES: Statement = {
  name: 'remembered-times',
  text: `select uri, at from gated_reply where uri = any($1::text[])`,
}

/**
 * The notifications of these posts. Notified are the accounts that a post mentions, the author of the post that it
 * quotes, and the authors of the posts above it; each account once, for the first of these reasons. When the thread's
 * gate forbids a reply, no author above it is notified. When the thread's owner has hidden a reply, the authors above
 * the hidden reply are not notified.
 */
async function notifyOfPosts(
  sql: Sql,
  written: readonly Written<Post>[],
  judged: ReadonlyMap<string, Judged>,
  facts: LoadedFacts,
): Promise<Map<string, Notification[]>> {
  const heard = written.flatMap(({ entry, rows }) =>
    rows[0]!.values.violatesThreadGate === true ? [] : [judged.get(entry.uri)!],
  )
  await loadAncestors(sql, heard, REPLY_NOTIFICATION_LEVELS, facts)
  return new Map(written.map((w) => [w.entry.uri, notificationsOf(w, judged.get(w.entry.uri)!, facts)]))
}

function notificationsOf({ entry, rows }: Written<Post>, post: Judged, facts: LoadedFacts): Notification[] {
  const told = new Set([entry.did])
  const notifications: Notification[] = []
  const tell = (notification: Notification): void => {
    if (told.has(notification.did)) return
    told.add(notification.did)
    notifications.push(notification)
  }
  for (const did of mentionsOf(entry.record)) tell(notify(did, 'mention'))
  const { values } = rows[0]!
  if (post.quotes !== null && values.violatesEmbeddingRules !== true)
    tell(notify(didOfUri(post.quotes), 'quote', post.quotes))
  if (values.violatesThreadGate === true) return notifications
  const hidden = facts.threadGate(post.root ?? post.uri, post.at)?.hiddenReplies ?? []
  let above = post.parent
  for (let level = 1; above !== null && level <= REPLY_NOTIFICATION_LEVELS; level++) {
    const ancestor = facts.postAt(above, post.at)
    if (!ancestor) break
    tell(notify(didOfUri(above), 'reply', above))
    if (hidden.includes(above)) break
    above = ancestor.parent
  }
  return notifications
}

/**
 * What is remembered of a post version that ended, for replies that arrive late: its place in the thread, and each
 * account that it mentioned once. Never the text.
 */
export function factOfPost({ uri, rev, live, record, createdAt }: Entry<Post>): Fact {
  return {
    key: uri,
    since: writtenAt({ rev, live }, claimOfKey(uri, createdAt)),
    fact: { ...placeOf(record), mentions: [...new Set(mentionsOf(record))] },
  }
}

/** The place of a post in its thread, in the form in which it is remembered. */
export function placeOf({ reply }: Post): PastPost {
  return { root: reply?.root.uri ?? null, parent: reply?.parent.uri ?? null }
}

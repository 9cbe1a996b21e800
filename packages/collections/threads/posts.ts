/** Posts in their threads: fills in what depends on other posts, and finds who hears of a reply. */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Post } from '../app.bsky.feed/post.ts'
import { quoted } from '../app.bsky.feed/post-embeds.ts'
import { notify, type Entry, type Fact, type Notification, type Sql, type Statement, type Written } from '../define.ts'
import { LoadedFacts, type PastPost } from './facts.ts'
import { loadAncestors, loadFacts, mentionsOf } from './load-facts.ts'
import { judge, type Judged, type Verdict } from './judge.ts'
import { claimOfKey, writtenAt } from './when.ts'

/** Authors up to this many levels above a reply hear of it; the official AppView's number. */
const REPLY_NOTIFICATION_LEVELS = 4

/**
 * Sets the derived columns of posts, and resolves to who hears of each. As in the official AppView the two columns of a reply are set together,
 * and only when one of them is true.
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
 * Posts of which `derivePosts` may make something. There is a verdict on replies and quotes alone (`judge.ts`); a post that has a gate is marked; and of a post hear those whom it mentions, the author of what
 * it quotes, and authors above a reply. About half of a network's posts are nothing of that. A record may write a name of its JSON with escapes, so whichever has any is looked at. Not by EXISTS: all quotes and all gates would be read for each page, to be hashed.
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

/** A reply is found by what it answers. With a column that the index of answers lacks: PostgreSQL before 17 reads that from end to end where it believes it to be small. */
export const ABOVE_POSTS: Statement = {
  name: 'above-posts',
  text: `select uri, "replyParent" as above, creator from post where uri = any($1::text[])`,
}

/** @param remembered when it was written, where that is known */
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

/** Facts about everything that is not in the batch itself. */
async function loadOutside(sql: Sql, judged: ReadonlyMap<string, Judged>, facts: LoadedFacts): Promise<void> {
  const posts = [...judged.values()].filter((p) => p.parent !== null || p.quotes !== null)
  if (posts.length > 0) await loadFacts(sql, posts, facts)
}

/** Judges parents of the batch before their children; a circle of replies is judged from where it is entered. */
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

/** `hasThreadGate` and `hasPostGate`. The gates are of the post's own account, so nobody else can be making them at the same moment. */
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

function isGated(post: Judged, facts: LoadedFacts): boolean {
  return post.root !== null && didOfUri(post.root) !== post.did && !!facts.threadGate(post.root, post.at)?.allow
}

/**
 * Replies whose verdict hangs on follows and lists, so that those which arrive late find them. With the time by which they were first judged: were it taken
 * from the record's key again, whoever makes up an early key would get past the gate with the next follow.
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
 * Who hears of these posts: those mentioned, the author of a quoted post, and authors up the thread; each once, for the first of these reasons. Nobody hears of
 * a reply that the thread's gate forbids, and above a reply that the thread's owner has hidden nobody does.
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

/** What stays of a post that is gone or was changed, for replies that arrive late: its place in the thread and whom it mentioned, each once. No text. */
export function factOfPost({ uri, rev, live, record, createdAt }: Entry<Post>): Fact {
  return {
    key: uri,
    since: writtenAt({ rev, live }, claimOfKey(uri, createdAt)),
    fact: { ...placeOf(record), mentions: [...new Set(mentionsOf(record))] },
  }
}

/** Its place in a thread, as it is remembered. */
export function placeOf({ reply }: Post): PastPost {
  return { root: reply?.root.uri ?? null, parent: reply?.parent.uri ?? null }
}

/**
 * Muted threads: nobody is told of what is done to their posts in a thread that they have muted. That holds also where
 * a post arrives after the like, repost or quote of it: until then nobody knows in which thread the post is, so its
 * author is told, and the notification is withdrawn when the post arrives. Likewise where an edit moves the post into
 * such a thread.
 *
 * A transaction that tells and one that brings the post may run beside each other. So each takes a lock of the post,
 * and holds it until its commit: if the one that tells comes second, it sees the post; if the one that brings it comes
 * second, it finds what was told after its commit. Nothing is left to the one that tells, which may die before it
 * settles and never tells again.
 *
 * All posts that the index knows share one lock. Whoever tells takes it in the statement that is needed anyhow, and
 * only an edit in a muted thread waits for all who tell.
 */
import { keyed, oneOfKey } from '@sluice/collections/by-key.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import type { Version } from './version.ts'

const POST = 'app.bsky.feed.post'

/** A notification, as far as muting is concerned. */
export interface About {
  did: string
  recordUri: string
  reasonSubject: string | null
}

/** A reply's place: its author, and the root of its thread. */
export interface Place {
  uri: string
  did: string
  root: string
  /** The index may have known the reply in another thread. */
  moves: boolean
}

export interface Muted {
  /** Notifications, by their index, that are about a thread that their receiver has muted. */
  muted: ReadonlySet<number>
  /** Replies whose authors have muted their threads: what was told about these is withdrawn after the commit. */
  places: Place[]
}

/**
 * The places of the replies among these versions.
 * @param moves whether the index may have known them in another thread
 */
export function placesOf(versions: Iterable<Version>, moves: boolean): Place[] {
  const places: Place[] = []
  for (const { uri, did, collection, content } of versions) {
    if (collection !== POST || !content?.indexed) continue
    const { reply } = content.indexed.entry.record as { reply?: { root: { uri: string } } }
    if (reply) places.push({ uri, did, root: reply.root.uri, moves })
  }
  return places
}

/**
 * Finds what is muted. Few accounts have muted anything, so the first statement finds those that have. A subject that
 * is deleted still counts as part of its thread.
 *
 * Must run before the transaction changes counters: whoever holds one of these never waits for a lock of a post.
 */
export async function findMuted(tx: Transaction, rows: readonly About[], places: readonly Place[]): Promise<Muted> {
  const receivers = [...new Set(rows.map(({ did }) => did))].sort()
  const { rows: found } = await tx.query<{ did: string; n: number | null }>(MUTING, [receivers, ...columnsOf(places)])
  const mutes = new Set(found.flatMap(({ did, n }) => (n === null ? [did] : [])))
  const mutedPlaces = found.flatMap(({ n }) => (n === null ? [] : [places[n - 1]!]))
  const about = [...rows.keys()].filter((i) => rows[i]!.reasonSubject !== null && mutes.has(rows[i]!.did))
  const { muted, unknown } = await look(tx, rows, about)
  if (unknown.length + mutedPlaces.length === 0) return { muted, places: [] }
  await lockPosts(tx, { told: unknown.map((i) => rows[i]!.reasonSubject!), brought: mutedPlaces.map(({ uri }) => uri) })
  const again = await look(tx, rows, unknown)
  return { muted: new Set([...muted, ...again.muted]), places: mutedPlaces }
}

/** Of these notifications, by their index, those that are muted, and those about posts that the index does not have. */
async function look(
  tx: Transaction,
  rows: readonly About[],
  about: readonly number[],
): Promise<{ muted: Set<number>; unknown: number[] }> {
  if (about.length === 0) return { muted: new Set(), unknown: [] }
  const { rows: looked } = await tx.query<{ index: number; isMuted: boolean }>(MUTED, [
    about,
    about.map((i) => rows[i]!.did),
    about.map((i) => rows[i]!.reasonSubject),
  ])
  return {
    muted: new Set(looked.flatMap(({ index, isMuted }) => (isMuted ? [index] : []))),
    unknown: looked.flatMap(({ index, isMuted }) =>
      isMuted || collectionOfUri(rows[index]!.reasonSubject!) !== POST ? [] : [index],
    ),
  }
}

/**
 * Withdraws what was told about these replies. Called after the commit that brought them.
 * @throws TransientError, FatalError
 */
export async function withdrawMuted(db: DatabasePool, places: readonly Place[]): Promise<void> {
  if (places.length === 0) return
  await transaction(db, { doing: 'withdrawing notifications' }, (tx) =>
    tx.query(WITHDRAW_BELOW, [places.map(({ uri }) => uri), places.map(({ did }) => did)]),
  )
}

/** The class of these advisory locks in this database. */
const LOCK_CLASS = 0x51_00_cf

/**
 * How many locks there are of posts that the index does not have, a power of two. Posts share them: PostgreSQL has room
 * for some thousands of locks in all, and a batch of a backfill may tell of thousands of posts that it does not know.
 */
const LOCKS = 64
/** The lock of all posts that the index has. It is taken before the others. */
const LOCK_OF_KNOWN = LOCKS

/** Locks posts until the end of the transaction. Any number of transactions may tell of a post at once. */
async function lockPosts(
  tx: Transaction,
  { told, brought }: { told: readonly string[]; brought: readonly string[] },
): Promise<void> {
  await tx.query(LOCK_POSTS, [
    [...told, ...brought],
    [...told.map(() => false), ...brought.map(() => true)],
  ])
}

function columnsOf(places: readonly Place[]): unknown[][] {
  return [places.map(({ did }) => did), places.map(({ root }) => root), places.map(({ moves }) => moves)]
}

/** Each lock once, in the order in which all transactions take them. */
const LOCK_POSTS = {
  name: 'lock-posts',
  text: `
    select case when "isBrought" then pg_advisory_xact_lock(${LOCK_CLASS}, lock) else pg_advisory_xact_lock_shared(${LOCK_CLASS}, lock) end
    from (
      select hashtext(uri) & ${LOCKS - 1} as lock, bool_or("isBrought") as "isBrought"
      from unnest($1::text[], $2::boolean[]) as post (uri, "isBrought") group by lock order by lock offset 0
    ) post`,
}

/**
 * The replies in threads that their authors have muted (`n`, from 1 on), and receivers who have muted anything (`n` is
 * null). Locks the posts that the index has: alone if one of these replies moves, together with others if somebody is
 * told. In this order: two transactions that hold the lock together and both want it alone would wait for each other.
 */
const MUTING = {
  name: 'muting-accounts',
  text: `
    select did, n::int, case when moves then pg_advisory_xact_lock(${LOCK_CLASS}, ${LOCK_OF_KNOWN})::text end as lock
    from unnest($2::text[], $3::text[], $4::boolean[]) with ordinality as place (did, root, moves, n)
    where (select true from thread_mute mute ${oneOfKey({ 'mute."rootUri"': 'place.root', 'mute."mutedByDid"': 'place.did' })})
    union all
    select did, null, pg_advisory_xact_lock_shared(${LOCK_CLASS}, ${LOCK_OF_KNOWN})::text from unnest($1::text[]) as receiver (did)
    where (select true from thread_mute mute where mute."mutedByDid" = receiver.did limit 1)`,
}

/**
 * For a subject that is gone, the last fact is read by its primary key, however often the subject was edited. A planner
 * that expects few matching facts would sort them all. A mute is looked up by thread and account together: an account
 * may have muted thousands of threads. Also returns the notifications whose subject is not there.
 */
const MUTED = {
  name: 'muted-notifications',
  text: `
    select index, "isMuted" from (
      select about.index, about."isThere", (
        select true from thread_mute mute ${oneOfKey({ 'mute."rootUri"': 'about.root', 'mute."mutedByDid"': 'about.did' })}
      ) is true as "isMuted"
      from (
        select notice.index, notice.did, coalesce(post."replyRoot", past.root, notice.subject) as root,
          post.uri is not null as "isThere"
        from unnest($1::int[], $2::text[], $3::text[]) as notice (index, did, subject)
        left join lateral (select uri, "replyRoot" from post where uri = notice.subject offset 0) post on true
        left join lateral (
          select fact ->> 'root' as root from past_fact
          where post.uri is null and uri = notice.subject and key <> 'gap' order by since desc limit 1
        ) past on true
        offset 0
      ) about
      offset 0
    ) looked where "isMuted" or not "isThere"`,
}

/** How many likes, reposts and quotes of one post are looked at, each. Strangers can make any number of them. */
const WITHDRAWN_MAX = 10_000

/**
 * Some of the records about the post. A plain equality would also match an index over creator and subject, which would
 * be read from end to end. Only an index by subject has the order that is asked for.
 */
const ABOUT = `where made.subject >= muted.uri and made.subject <= muted.uri order by made.subject limit ${WITHDRAWN_MAX}`

/** Deletes what the author of each post was told of likes, reposts and quotes of it. */
const WITHDRAW_BELOW = {
  name: 'withdraw-below',
  text: `
    with told as materialized (
      select notification.id from (select distinct uri, did from unnest($1::text[], $2::text[]) as muted (uri, did)) muted
      cross join lateral (
        (select uri from "like" made ${ABOUT})
        union all (select uri from repost made ${ABOUT})
        union all (select uri from quote made ${ABOUT})
      ) about
      cross join lateral (
        select id from notification where "recordUri" = about.uri and did || '' = muted.did and "reasonSubject" = muted.uri offset 0
      ) notification
    )
    delete from notification using told where ${keyed('notification.id', 'told.id')}`,
}

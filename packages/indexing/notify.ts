/**
 * Notifications of one batch. Each is written once, only for records whose rows are in the index, and not for threads
 * that the receiver has muted.
 */
import type { CopyRow } from '@sluice/database/copy.ts'
import { oneOfKey } from '@sluice/collections/by-key.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Collection, Entry, Notification } from '@sluice/collections/define.ts'

export interface NotificationRow {
  did: string
  recordUri: string
  recordCid: string
  author: string
  reason: string
  reasonSubject: string | null
  sortAt: string
}

const NOTIFICATION = {
  table: 'notification',
  columns: ['did', 'recordUri', 'recordCid', 'author', 'reason', 'reasonSubject', 'sortAt'],
}

export class NotificationBatch {
  readonly #rows: NotificationRow[] = []

  add(plugin: Collection, entry: Omit<Entry, 'record'>, notifications: readonly Notification[]): void {
    for (const { did, reason, reasonSubject, sortAt = entry.sortAt } of notifications) {
      if (did === entry.did && !plugin.notifiesSelf) continue
      const { uri: recordUri, cid: recordCid, did: author } = entry
      this.#rows.push({ did, recordUri, recordCid, author, reason, reasonSubject, sortAt })
    }
  }

  async flush(tx: Transaction): Promise<void> {
    if (this.#rows.length === 0) return
    const muted = await findMuted(tx, this.#rows)
    const rows = this.#rows.filter((_, i) => !muted.has(i))
    void tx.copy(NOTIFICATION, copyRows(rows))
  }
}

function* copyRows(rows: readonly NotificationRow[]): Generator<CopyRow> {
  for (const r of rows) yield [r.did, r.recordUri, r.recordCid, r.author, r.reason, r.reasonSubject, r.sortAt]
}

/**
 * Finds the rows, by their index, that are about a thread that their receiver has muted. Few accounts have muted
 * anything, so the first statement finds those that have. A subject that is deleted still counts as part of its thread.
 */
async function findMuted(tx: Transaction, rows: readonly NotificationRow[]): Promise<Set<number>> {
  const receivers = new Set(rows.map(({ did }) => did))
  const muting = await tx.query<{ did: string }>(MUTING, [[...receivers].sort()])
  if (muting.rows.length === 0) return new Set()
  const mutes = new Set(muting.rows.map(({ did }) => did))
  const about = rows.flatMap(({ did, reasonSubject }, i) =>
    reasonSubject !== null && mutes.has(did) ? [{ did, reasonSubject, i }] : [],
  )
  const { rows: found } = await tx.query<{ index: number }>(MUTED, [
    about.map((a) => a.i),
    about.map((a) => a.did),
    about.map((a) => a.reasonSubject),
  ])
  return new Set(found.map(({ index }) => index))
}

const MUTING = {
  name: 'muting-accounts',
  text: `
    select did from unnest($1::text[]) as receiver (did)
    where (select true from thread_mute mute where mute."mutedByDid" = receiver.did limit 1)`,
}

/**
 * For a subject that is gone, the last fact is read by its primary key, however often the subject was edited. A planner
 * that expects few matching facts would sort them all. A mute is looked up by thread and account together: an account
 * may have muted thousands of threads.
 */
const MUTED = {
  name: 'muted-notifications',
  text: `
    select about.index from (
      select notice.index, notice.did, coalesce(post."replyRoot", past.root, notice.subject) as root
      from unnest($1::int[], $2::text[], $3::text[]) as notice (index, did, subject)
      left join lateral (select uri, "replyRoot" from post where uri = notice.subject offset 0) post on true
      left join lateral (
        select fact ->> 'root' as root from past_fact
        where post.uri is null and uri = notice.subject and key <> 'gap' order by since desc limit 1
      ) past on true
      offset 0
    ) about
    where (select true from thread_mute mute ${oneOfKey({ 'mute."rootUri"': 'about.root', 'mute."mutedByDid"': 'about.did' })})`,
}

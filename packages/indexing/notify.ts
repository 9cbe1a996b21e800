/**
 * Notifications of one batch. Each is written once, only for records whose rows are in the index, and not for threads
 * that the receiver has muted.
 */
import type { CopyRow } from '@sluice/database/copy-data.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { Entry, Notification } from '@sluice/collections/record.ts'
import { findMuted, type Place } from './mutes.ts'

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

  /**
   * Writes them. Must run before the transaction changes counters (`findMuted`).
   * @param places of replies that the batch brings
   * @returns those of these replies whose authors have muted their threads
   */
  async flush(tx: Transaction, places: readonly Place[] = []): Promise<Place[]> {
    if (this.#rows.length + places.length === 0) return []
    const { muted, places: mutedPlaces } = await findMuted(tx, this.#rows, places)
    const rows = this.#rows.filter((_, i) => !muted.has(i))
    if (rows.length > 0) void tx.copy(NOTIFICATION, copyRows(rows))
    return mutedPlaces
  }
}

function* copyRows(rows: readonly NotificationRow[]): Generator<CopyRow> {
  for (const r of rows) yield [r.did, r.recordUri, r.recordCid, r.author, r.reason, r.reasonSubject, r.sortAt]
}

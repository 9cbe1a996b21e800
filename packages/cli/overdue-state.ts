/**
 * How late the work beside the data path is: for each queue, for how many seconds its first item has been due; 0 when
 * nothing is due.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { overdueAccountChecks, type AccountQueue } from '@sluice/indexing/account-checks.ts'
import { overdueDeletions, type DeletionQueue } from '@sluice/indexing/deletion-queue.ts'
import { overdueLater, type LaterQueue } from '@sluice/indexing/settle-later.ts'
import { TransientError } from '@sluice/runtime/errors.ts'

export interface OverdueState {
  checks: Record<AccountQueue, number>
  deletions: Record<DeletionQueue, number>
  /** Records, mostly posts, on which more other records hang than batches settled themselves. */
  later: Record<LaterQueue, number>
}

/** How long to wait for a lock. The tables may be locked by a migration, or by whatever is blocking everything else. */
const LOCK_MS = 300

/**
 * Returns undefined while another session holds the tables.
 * @throws FatalError
 */
export async function readOverdue(db: DatabasePool): Promise<OverdueState | undefined> {
  const now = new Date()
  const look = transaction(db, { doing: 'looking at what is due', attempts: 1 }, async (tx) => {
    await tx.query(`set local lock_timeout to ${LOCK_MS}`)
    return {
      checks: await overdueAccountChecks(tx, now),
      deletions: await overdueDeletions(tx, now),
      later: await overdueLater(tx, now),
    }
  })
  return await look.catch((error: unknown) => {
    if (!(error instanceof TransientError)) throw error
    return undefined
  })
}

/**
 * Whether a bulk load is under way. Every batch asks within its transaction, under a shared lock that a change of phase takes
 * exclusively: no batch is half of one phase and half of another.
 *
 * | phase       | what a batch does                                                                                   |
 * |-------------|-----------------------------------------------------------------------------------------------------|
 * | none        | everything                                                                                          |
 * | `loading`   | records, rows and notifications that follow from the record alone; nothing that has to look at others |
 * | `finishing` | everything; what `loading` left out is made up for beside it                                       |
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

export type BulkPhase = 'loading' | 'finishing'

/** Of advisory locks: those of bulk loads, in this database. */
const LOCK_CLASS = 0x51_00_ce
const PHASE_LOCK = 1
const FINISHER_LOCK = 2

const LOCK_SHARED = { name: 'bulk-lock', text: `select pg_advisory_xact_lock_shared(${LOCK_CLASS}, ${PHASE_LOCK})` }
const PHASE = { name: 'bulk-phase', text: `select phase from bulk_load` }

/** The phase just now, outside of any batch; undefined: no bulk load. */
export async function bulkPhase(db: DatabasePool): Promise<BulkPhase | undefined> {
  const { rows } = await db.query<{ phase: BulkPhase }>(PHASE.text)
  return rows[0]?.phase
}

/** For a batch. Two statements, because the second one's snapshot must be younger than the lock. Sent at once. */
export async function readPhase(tx: Transaction): Promise<BulkPhase | undefined> {
  void tx.query(LOCK_SHARED)
  const { rows } = await tx.query<{ phase: BulkPhase }>(PHASE)
  return rows[0]?.phase
}

/** Waits until no batch is under way, and keeps others waiting until the transaction ends. */
export async function stopBatches(tx: Transaction): Promise<void> {
  await tx.query(`select pg_advisory_xact_lock(${LOCK_CLASS}, ${PHASE_LOCK})`)
}

/** For the session: false when another one is finishing this load. */
export const TRY_FINISHER_LOCK = `select pg_try_advisory_lock(${LOCK_CLASS}, ${FINISHER_LOCK}) as got`
export const FINISHER_UNLOCK = `select pg_advisory_unlock(${LOCK_CLASS}, ${FINISHER_LOCK})`

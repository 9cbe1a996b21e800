/**
 * Whether a bulk load is under way. Every batch asks within its transaction, under a shared lock that a change of phase
 * takes exclusively. So no batch is half in one phase and half in another.
 *
 * | phase       | what a batch does                                                                                     |
 * |-------------|-------------------------------------------------------------------------------------------------------|
 * | none        | everything                                                                                            |
 * | `loading`   | records, rows and notifications that follow from the record alone; nothing that depends on others     |
 * | `finishing` | everything; what `loading` left out is made up for beside it                                          |
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

export type BulkPhase = 'loading' | 'finishing'

/** The class of the advisory locks of bulk loads in this database. */
const LOCK_CLASS = 0x51_00_ce
const PHASE_LOCK = 1
const FINISHER_LOCK = 2

const LOCK_SHARED = { name: 'bulk-lock', text: `select pg_advisory_xact_lock_shared(${LOCK_CLASS}, ${PHASE_LOCK})` }
const PHASE = { name: 'bulk-phase', text: `select phase from bulk_load` }

/** The current phase, outside of any batch. Undefined: no bulk load. */
export async function bulkPhase(db: DatabasePool): Promise<BulkPhase | undefined> {
  const { rows } = await db.query<{ phase: BulkPhase }>(PHASE.text)
  return rows[0]?.phase
}

/**
 * Reads the phase for a batch, under the shared lock. Two statements, because the snapshot of the second must be
 * younger than the lock. Both are sent at once.
 */
export async function readPhase(tx: Transaction): Promise<BulkPhase | undefined> {
  void tx.query(LOCK_SHARED)
  const { rows } = await tx.query<{ phase: BulkPhase }>(PHASE)
  return rows[0]?.phase
}

/** Waits until no batch is under way, and blocks others until the transaction ends. */
export async function stopBatches(tx: Transaction): Promise<void> {
  await tx.query(`select pg_advisory_xact_lock(${LOCK_CLASS}, ${PHASE_LOCK})`)
}

/** Takes the lock for the session. False: another process is finishing this load. */
export const TRY_FINISHER_LOCK = `select pg_try_advisory_lock(${LOCK_CLASS}, ${FINISHER_LOCK}) as got`
export const FINISHER_UNLOCK = `select pg_advisory_unlock(${LOCK_CLASS}, ${FINISHER_LOCK})`

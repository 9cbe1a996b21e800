/** D5: a connection that PostgreSQL ends in the middle of a batch fails the batch, and not the process. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from './apply-batch.ts'
import { stopBatches } from './bulk/phase.ts'
import { KnownActors } from './own.ts'
import { history } from './testing/history.ts'

test('D5 a connection cut while a batch waits for its first answers is a transient error, and no unhandled rejection', async ({
  database,
}) => {
  await using held = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'holder' })
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'victim' })
  const unhandled: unknown[] = []
  const remember = (error: unknown): void => void unhandled.push(error)
  process.on('unhandledRejection', remember)
  try {
    const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
    await transaction(held, { doing: 'holding batches up' }, async (tx) => {
      await stopBatches(tx)
      const applied = applyBatch(index, history({ seed: 1, events: 20 })).then(
        () => 'applied',
        (error: unknown) => error,
      )
      const cut = async (): Promise<number> => {
        const text = `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'sluice-victim' and wait_event_type = 'Lock'`
        return (await held.query(text)).rows.length
      }
      await expect.poll(cut, { timeout: 20_000, interval: 20 }).toBe(1)
      expect(await applied).toBeInstanceOf(TransientError)
    })
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(unhandled).toEqual([])
  } finally {
    process.off('unhandledRejection', remember)
  }
})

/** Lets transactions meet at a moment that the test chooses: those that want a row that is held wait there. */
import { expect } from 'vitest'
import type { Index } from '../apply-batch.ts'

/**
 * Runs `meet` while an open transaction holds the locks of a statement. Then releases the locks, and waits for what
 * `meet` began and has not ended.
 * @param held the statement and its values, such as `select … for update`
 * @param meet is given a function that resolves when `n` connections of the database wait for a lock
 */
export async function whileHeld(
  { db }: Pick<Index, 'db'>,
  [text, ...values]: [string, ...unknown[]],
  meet: (waiting: (n: number) => Promise<void>) => Promise<Promise<unknown>[]>,
): Promise<void> {
  const holder = await db.acquire()
  let begun: Promise<unknown>[]
  try {
    await holder.query('begin')
    await holder.query(text, values)
    begun = await meet((n) => expect.poll(async () => (await db.query(LOCKED)).rows.length).toBe(n))
  } finally {
    await holder.query('rollback')
    holder.release()
  }
  await Promise.all(begun)
}

const LOCKED = `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`

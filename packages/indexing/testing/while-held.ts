/** Lets transactions meet at a moment of a test's choosing: those that want a row that somebody holds wait there. */
import { expect } from 'vitest'
import type { Index } from '../apply-batch.ts'

/**
 * Runs `meet` while a statement of an open transaction holds what it locks, then gives it back, and waits for what `meet` began and has not ended.
 * @param held the statement and its values, such as `select … for update`
 * @param meet is given what resolves when so many connections of the database wait for a lock
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

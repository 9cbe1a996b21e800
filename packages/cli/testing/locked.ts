/** A session that somebody forgot: it holds tables, so that whoever needs them waits. */
import { DatabasePool } from '@sluice/database/pool.ts'

/** Holds the tables of the AppView's schema until it is disposed of. */
export async function lockTables(url: string, tables: readonly string[]): Promise<AsyncDisposable> {
  await using held = new AsyncDisposableStack()
  const pool = held.use(new DatabasePool({ url, schema: 'bsky', size: 1, role: 'forgotten' }))
  const client = await pool.acquire()
  held.defer(() => client.release(true))
  await client.query('begin')
  await client.query(`lock table ${tables.join(', ')} in access exclusive mode`)
  return held.move()
}

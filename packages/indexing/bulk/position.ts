/** How far the end of a bulk load has come, step by step: what a later run goes on from. */
import type { DatabasePool } from '@sluice/database/pool.ts'

/** Not a step: since when the posts are derived. Its position is a transaction. */
export const SINCE = 'since'

export async function isBegun(db: DatabasePool, name: string): Promise<boolean> {
  return (await db.query('select from bulk_step where name = $1', [name])).rows.length > 0
}

export async function isDone(db: DatabasePool, name: string): Promise<boolean> {
  const { rows } = await db.query<{ done: boolean }>('select done from bulk_step where name = $1', [name])
  return rows[0]?.done === true
}

/** Where to go on; undefined when it is done. */
export async function positionOf(db: DatabasePool, name: string): Promise<string | undefined> {
  const { rows } = await db.query<{ position: string; done: boolean }>(
    'select position, done from bulk_step where name = $1',
    [name],
  )
  return rows[0]?.done ? undefined : (rows[0]?.position ?? '')
}

export async function savePosition(db: DatabasePool, name: string, position: string, done: boolean): Promise<void> {
  await db.query(
    `insert into bulk_step (name, position, done) values ($1, $2, $3)
     on conflict (name) do update set position = excluded.position, done = excluded.done`,
    [name, position, done],
  )
}

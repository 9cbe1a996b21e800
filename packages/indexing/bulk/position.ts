/** How far the end of a bulk load has come, step by step. A later run goes on from there. */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { build, firstRowOf, rowsOf } from '@sluice/database/typed.ts'

/** Not a step: its position is the oldest transaction (xid) that was running when the step `posts` began. */
export const SINCE = 'since'

export async function isBegun(db: DatabasePool, name: string): Promise<boolean> {
  return (await stepOf(db, name)) !== undefined
}

export async function isDone(db: DatabasePool, name: string): Promise<boolean> {
  return (await stepOf(db, name))?.done === true
}

/** Where to go on. Undefined: the step is done. */
export async function positionOf(db: DatabasePool, name: string): Promise<string | undefined> {
  const step = await stepOf(db, name)
  return step?.done ? undefined : (step?.position ?? '')
}

function stepOf(db: DatabasePool, name: string): Promise<{ position: string; done: boolean } | undefined> {
  return firstRowOf(db, build.selectFrom('bulk_step').select(['position', 'done']).where('name', '=', name))
}

export async function savePosition(db: DatabasePool, name: string, position: string, done: boolean): Promise<void> {
  const step = build.insertInto('bulk_step').values({ name, position, done })
  await rowsOf(
    db,
    step.onConflict((held) => held.column('name').doUpdateSet({ position, done })),
  )
}

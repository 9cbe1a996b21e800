/**
 * Derives what loading left out: the columns of records that depend on others, and who hears of them. Only of those on which something may hang (`derivable`), page by page in the order
 * of their URIs, as the live path derives again what it has found.
 *
 * While that goes on batches judge by what has not been derived yet, and so do pages. Whoever derives a record later goes on from it when it changes. What is gone by then, or is one of those that are left
 * out, nobody derives, and what hung on it was judged by what it never was: so in the end it goes on from all that has ended since this began.
 *
 * What is further down than one goes is put off, and settled beside the data path like what batches put off.
 */
import type { Collection } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { shared, sideBySide } from '@sluice/runtime/side-by-side.ts'
import { deriveOnward } from '../derive-onward.ts'
import { putOff } from '../settle-later.ts'
import type { Moment } from '../unseen.ts'
import { JOBS_MAX } from './jobs.ts'
import { isBegun, positionOf, savePosition, SINCE } from './position.ts'
import type { StepContext } from './step.ts'

/** As it is called in `finish.ts`. */
const STEP = 'posts'

/** Rows that are read at a time, for each job; about half of them are derived. */
const PAGE_ROWS = 2_000

/** Derives in every collection that does. Cut short it is called again, and goes on. @throws TransientError, FatalError, or the signal's reason between two pages */
export async function deriveAll(context: StepContext): Promise<void> {
  const { db, collections, jobs } = context
  // The statements are those of the data path. Planned when `gated_reply` was empty, one of them read all of it for each thousand posts, and compared each row with each of them.
  await using byKey = db.alike({ byKey: true, size: jobs })
  const begin = await beginOf(db)
  for (const plugin of collections.plugins) {
    if (!plugin.derive) continue
    await derivePages(context, byKey, plugin, begin)
    await goOnFromEnded(context, byKey, plugin, begin)
  }
}

interface Begin {
  /** The oldest transaction that was running when this was called for the first time. */
  oldest: string
  /** An older build had begun. From when on that ran nobody knows, so all is done again, and gone on from though it does not change. */
  isAnew: boolean
}

async function beginOf(db: DatabasePool): Promise<Begin> {
  const oldest = await db.session(oldestNow)
  return await transaction(db, { doing: 'beginning the posts of a bulk load' }, async (tx) => {
    const { rows } = await tx.query<{ oldest: string }>('select position as oldest from bulk_step where name = $1', [
      SINCE,
    ])
    if (rows[0]) return { oldest: rows[0].oldest, isAnew: false }
    const older = await tx.query(`delete from bulk_step where name like '${STEP} %'`)
    await tx.query('insert into bulk_step (name, position, done) values ($1, $2, false)', [SINCE, oldest])
    return { oldest, isAnew: older.rowCount! > 0 }
  })
}

async function oldestNow(session: Session): Promise<string> {
  const { rows } = await session.query<{ oldest: string }>(OLDEST)
  return rows[0]!.oldest
}

const OLDEST = { name: 'oldest-xid', text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest` }

/** As far as is known of a moment of which only that is: nothing since was seen. */
function sinceOldest(oldest: string): Moment {
  return { next: oldest, running: [] }
}

async function derivePages(
  { db, collections, signal, onProgress, jobs }: StepContext,
  byKey: DatabasePool,
  plugin: Collection,
  { oldest, isAnew }: Begin,
): Promise<void> {
  const name = `${STEP} ${plugin.nsid}`
  // The page that was under way when this was cut short, of a run with as many jobs as may be: what it has changed does not change again.
  const begun = await isBegun(db, name)
  let resumed = isAnew ? Infinity : begun ? PAGE_ROWS * JOBS_MAX : 0
  if (!begun) await savePosition(db, name, '', false)
  let after = await positionOf(db, name)
  while (after !== undefined) {
    signal.throwIfAborted()
    const page = await nextPage(byKey, plugin, after, PAGE_ROWS * jobs)
    const onward = { found: sinceOldest(oldest), resumes: resumed > 0 }
    await sideBySide(shared(page.uris, jobs), jobs, async (part) => {
      await putOff(byKey, (await deriveOnward(byKey, collections, part, onward)).beyond)
    })
    resumed -= page.rows
    after = page.rows < PAGE_ROWS * jobs ? undefined : page.last
    await savePosition(db, name, after ?? '', after === undefined)
    onProgress({ step: STEP, at: after ?? 'done' })
  }
}

/** From each record of the collection of which a version has ended since then, whatever stands there now. */
async function goOnFromEnded(
  { db, collections, signal, onProgress }: StepContext,
  byKey: DatabasePool,
  { nsid }: Collection,
  { oldest }: Begin,
): Promise<void> {
  const name = `ended ${nsid}`
  let after = await positionOf(db, name)
  while (after !== undefined) {
    signal.throwIfAborted()
    const { rows } = await byKey.query<{ uri: string }>(ENDED, [after, nsid, oldest, ENDED_AT_ONCE])
    const uris = rows.map(({ uri }) => uri)
    // This page may have been under way before, too.
    const { beyond } = await deriveOnward(byKey, collections, uris, { found: sinceOldest(oldest), resumes: true })
    await putOff(byKey, beyond)
    after = uris.length < ENDED_AT_ONCE ? undefined : uris.at(-1)
    await savePosition(db, name, after ?? '', after === undefined)
    onProgress({ step: STEP, at: `${name} ${after ?? 'done'}` })
  }
}

const ENDED_AT_ONCE = 1_000

/** In one pass over all that is remembered, in the order of the primary key. */
const ENDED = {
  name: 'ended-since',
  text: `
    select distinct uri from past_fact where uri > $1 and split_part(uri, '/', 4) = $2 and age(xmin) <= age($3::text::xid8::xid)
    order by uri limit $4`,
}

interface Page {
  /** How many rows were looked at, and the last of them. */
  rows: number
  last: string
  /** Those that are to be derived. */
  uris: string[]
}

async function nextPage(
  db: DatabasePool,
  { tables: [primary], derivable }: Collection,
  after: string,
  most: number,
): Promise<Page> {
  const owner = `"${primary!.owner}"`
  const table = `"${primary!.name}"`
  return await db.session(async (session) => {
    const { rows: ends } = await session.query<{ rows: number; last: string | null }>(
      `select count(*)::int as rows, max(uri) as last from (select ${owner} as uri from ${table} where ${owner} > $1 order by 1 limit $2) page`,
      [after, most],
    )
    const { rows, last } = ends[0]!
    if (last === null) return { rows, last: after, uris: [] }
    const all = {
      name: `rows-${primary!.name}`,
      text: `select ${owner} as uri from ${table} where ${owner} > $1 and ${owner} <= $2 order by 1`,
    }
    const found = await session.query<{ uri: string }>(derivable ?? all, [after, last])
    return { rows, last, uris: found.rows.map(({ uri }) => uri) }
  })
}

/**
 * Derives what loading left out: the columns of records that depend on other records, and who is notified of them. Only
 * records that may have something to derive are derived (`derivable`), page by page in the order of their URIs, as the
 * live path derives records again.
 *
 * Meanwhile batches and other pages judge by records that are not derived yet. If such a record is derived later and
 * changes, the walk goes on below it. But a record that is gone by then, or that is left out, is derived by nobody, and
 * what hung on it was judged by a value that it never had. So at the end the walk goes on below every record of which a
 * version has ended since this began.
 *
 * What lies further down than one walk goes is put off, and settled beside the data path, like what batches put off.
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

/** The name of the step in `finish.ts`. */
const STEP = 'posts'

/** How many rows are read at a time for each job; about half of them are derived. */
const PAGE_ROWS = 2_000

/**
 * Derives in every collection with derived columns. If it is interrupted, it can be called again, and goes on.
 * @throws TransientError, FatalError, or the signal's reason between two pages
 */
export async function deriveAll(context: StepContext): Promise<void> {
  const { db, collections, jobs } = context
  // The statements are those of the data path. Planned while `gated_reply` was empty, one of them read all of it for
  // each thousand posts, and compared each row with each post.
  await using byKey = db.alike({ byKey: true, size: jobs })
  const begin = await beginOf(db)
  for (const plugin of collections.plugins) {
    if (!plugin.derive) continue
    await derivePages(context, byKey, plugin, begin)
    await goOnFromEnded(context, byKey, plugin, begin)
  }
}

interface Begin {
  /** The oldest transaction (xid) that was running when this was called for the first time. */
  oldest: string
  /**
   * An older build began this step, and nobody knows since when it ran. So all posts are derived again, and the walk
   * goes on also below those that do not change.
   */
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

/**
 * The snapshot of a moment of which only the oldest running transaction is known: nothing since then counts as seen.
 */
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
  // The page that was under way at an interruption, of a run with as many jobs as may be. What that run changed does
  // not change again, so the walk goes on below all of its posts.
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

/**
 * Goes on below each record of the collection of which a version has ended since then, whatever the index holds there
 * now.
 */
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
    // An earlier run may have been interrupted in this page, too.
    const { beyond } = await deriveOnward(byKey, collections, uris, { found: sinceOldest(oldest), resumes: true })
    await putOff(byKey, beyond)
    after = uris.length < ENDED_AT_ONCE ? undefined : uris.at(-1)
    await savePosition(db, name, after ?? '', after === undefined)
    onProgress({ step: STEP, at: `${name} ${after ?? 'done'}` })
  }
}

const ENDED_AT_ONCE = 1_000

/** One pass over `past_fact`, in the order of its primary key. */
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
  /** URIs of the records to derive. */
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

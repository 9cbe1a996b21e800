/**
 * `sluice prune`: removes what has served its time, in small batches that wait for nobody's lock.
 *
 * Tombstones keep a deleted record from coming back by an older event, so one may go when no older event can be queued any more: it must be older
 * than the oldest entry that waits, or that is a dead letter, with a day to spare. Notifications, and what is remembered of ended records, go by age, when asked for.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { tidFromMicros } from '@sluice/atproto/tid.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { selectDeadLetters } from '@sluice/streams/dead-letters.ts'
import { inspect } from '@sluice/streams/inspect.ts'
import { formatShard } from '@sluice/streams/spread.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { count } from '../output.ts'
import type { Session } from '../session.ts'
import { streamsOf } from '../system-state.ts'

interface Options {
  tombstones: string
  notifications?: string
  facts?: string
  batch: string
  checked?: boolean
  yes?: boolean
}

interface Rule {
  table: string
  key: string
  /** Text that sorts by time. */
  time: string
  before: string
  first: string | number
}

const DAY_MS = 86_400_000
const PAUSE_MS = 20

export const addPrune: Add = (cli, parent) => {
  parent
    .command('prune')
    .description(
      'remove old tombstones, and old notifications when asked to, in small batches; a dry run without --yes',
    )
    .option('--tombstones <days>', 'older than this', '30')
    .option('--notifications <days>', 'older than this; without it none is removed')
    .option(
      '--facts <days>',
      'what ended longer ago: replies of before that come later are judged by what is; without it none is removed',
    )
    .option('--batch <rows>', 'rows that are looked at in one transaction', '5000')
    .option('--checked', 'with shards: the dry run had no objection in the environment of any of them')
    .option('--yes', 'do it')
    .addHelpText(
      'after',
      examples(
        ['sluice prune', 'how many tombstones are older than 30 days'],
        ['sluice prune --yes', 'remove them'],
        ['sluice prune --notifications 365 --yes', 'and notifications that are older than a year'],
      ),
    )
    .action((options: Options, command) => {
      const numbers = [options.tombstones, options.notifications ?? '1', options.facts ?? '1', options.batch].map(
        Number,
      )
      if (numbers.some((n) => !(n > 0))) command.error('error: days and rows are numbers above 0')
      return cli.run((session) => prune(session, options))
    })
}

async function prune(session: Session, options: Options): Promise<number> {
  const { out, signal } = session
  const { shard } = session.settings
  if (shard.of > 1 && options.yes && !options.checked) {
    throw new CannotError(
      `these streams are those of shard ${formatShard(shard)}, and entries that need a tombstone may wait in another: run sluice prune in the environment of every shard, and when none refuses, add --checked`,
    )
  }
  const db = await session.db()
  const rules = [await tombstones(session, Number(options.tombstones))]
  if (options.notifications !== undefined) rules.push(notifications(Number(options.notifications)))
  if (options.facts !== undefined) rules.push(facts(Number(options.facts)))
  const results: { table: string; before: string; rows: number }[] = []
  for (const rule of rules) {
    const rows = options.yes ? await remove(db, rule, Number(options.batch), signal) : await countOld(db, rule)
    results.push({ table: rule.table, before: rule.before, rows })
    out.line(
      `${rule.table}: ${options.yes ? 'removed' : 'would remove'} ${count(rows)} rows from before ${rule.before}`,
    )
  }
  out.document({ done: options.yes === true, results })
  if (!options.yes) out.line('Nothing was done; add --yes to do it.')
  return EXIT.done
}

async function tombstones(session: Session, days: number): Promise<Rule> {
  const redis = await session.redis()
  const { streams } = await inspect(redis, { streams: streamsOf(session.settings) })
  const oldest = Math.max(0, ...streams.map(({ oldest: entry }) => entry?.ageSeconds ?? 0)) * 1_000
  const buriedMs = Date.now() - (await oldestLetterMs(redis, streamsOf(session.settings)))
  const beforeMs = Date.now() - days * DAY_MS
  if (beforeMs > Date.now() - oldest - DAY_MS) {
    throw new CannotError(
      `tombstones of the last ${Math.ceil((oldest + DAY_MS) / DAY_MS)} days are needed: entries that old still wait in the streams, and would bring deleted records back`,
    )
  }
  if (beforeMs > Date.now() - buriedMs - DAY_MS) {
    throw new CannotError(
      `tombstones are needed: a dead letter is older, or was put back before and may be of any age, and would bring deleted records back when it is retried. Look at them with \`sluice dlq list\`, then retry or drop them`,
    )
  }
  const before = new Date(beforeMs).toISOString()
  return { table: 'tombstone', key: 'uri', time: 'deletedAt', before, first: '' }
}

/** When the oldest entry came that is a dead letter now; the present when there is none. One that was put back and died again has a new id: it may be of any age. */
async function oldestLetterMs(redis: Redis, streams: readonly string[]): Promise<number> {
  let oldestMs = Date.now()
  for (const stream of streams) {
    for await (const letters of selectDeadLetters(redis, stream, 'all')) {
      for (const { entryId, retries } of letters)
        oldestMs = Math.min(oldestMs, retries > 0 ? 0 : Number.parseInt(entryId))
    }
  }
  return oldestMs
}

function notifications(days: number): Rule {
  const before = new Date(Date.now() - days * DAY_MS).toISOString()
  return { table: 'notification', key: 'id', time: 'sortAt', before, first: 0 }
}

/** Their times are TIDs. */
function facts(days: number): Rule {
  const before = tidFromMicros((Date.now() - days * DAY_MS) * 1_000)
  return { table: 'past_fact', key: 'uri', time: 'until', before, first: '' }
}

async function countOld(db: DatabasePool, { table, time, before }: Rule): Promise<number> {
  const { rows } = await db.query<{ n: number }>(`select count(*)::float8 as n from ${table} where "${time}" < $1`, [
    before,
  ])
  return rows[0]!.n
}

/** Goes through the table by its key: each step looks at so many rows. What a batch holds is left for the next time. */
async function remove(
  db: DatabasePool,
  { table, key, time, before, first }: Rule,
  batch: number,
  signal: AbortSignal,
): Promise<number> {
  const step = `
    with looked as (
      select "${key}" as key, "${time}" as at from ${table} where "${key}" > $1 order by "${key}" limit $3
    ), old as (
      select "${key}" as key from ${table} where "${key}" in (select key from looked where at < $2) and "${time}" < $2
      for update skip locked
    ), gone as (
      delete from ${table} where "${key}" in (select key from old) and "${time}" < $2 returning 1
    )
    select (select count(*)::int from gone) as gone, (select count(*)::int from looked) as looked, (select max(key) from looked) as last`
  let removed = 0
  for (let after = first; !signal.aborted;) {
    const { rows } = await db.query<{ gone: number; looked: number; last: string | number }>(step, [
      after,
      before,
      batch,
    ])
    const { gone, looked, last } = rows[0]!
    removed += gone
    if (looked < batch) return removed
    after = last
    await delay(PAUSE_MS)
  }
  return removed
}

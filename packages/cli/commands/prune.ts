/**
 * `sluice prune`: removes rows that are no longer needed, in small batches that wait for no lock.
 *
 * A tombstone keeps an older event from bringing back a deleted record. It may go when no older event can be queued any
 * more. That is so when the tombstone is more than a day older than the oldest entry that waits in a stream, and than
 * every dead letter, also one that was put back. Notifications, and the facts that are remembered of ended records, are
 * removed by age, when asked for.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { inspect } from '@sluice/streams/inspect.ts'
import { oldestLetterMs } from '@sluice/streams/letter-age.ts'
import { formatShard } from '@sluice/streams/spread.ts'
import { positive, wholeNumber } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { count } from '../output.ts'
import type { Session } from '../session.ts'
import { streamsOf } from '../system-state.ts'

interface Options {
  tombstones: number
  notifications?: number
  facts?: number
  batch: number
  checked?: boolean
  yes?: boolean
}

interface Rule {
  table: string
  key: string
  /** The column with the row's time, as text that sorts by time. */
  time: string
  /** The time before which rows are old, as the column has it. */
  before: string
  /** The same in ISO 8601. */
  beforeTime: string
  first: string | number
}

const DAY_MS = 86_400_000
const PAUSE_MS = 20

export const addPrune: Add = (cli, parent) => {
  parent
    .command('prune')
    .description(
      'remove old tombstones, and old notifications and facts when asked to, in small batches; a dry run without --yes',
    )
    .option('--tombstones <days>', 'older than this', positive, 30)
    .option('--notifications <days>', 'older than this; without it none is removed', positive)
    .option(
      '--facts <days>',
      'ended longer ago than this; without it none is removed. A reply from before then that arrives later is judged by what holds now',
      positive,
    )
    .option('--batch <rows>', 'rows that are looked at in one transaction', wholeNumber(1, 1_000_000), 5_000)
    .option('--checked', 'with shards: the dry run had no objection in the environment of any of them')
    .option('--yes', 'do it')
    .addHelpText(
      'after',
      examples(
        ['sluice prune', 'how many tombstones are older than 30 days'],
        ['sluice prune --yes', 'remove them'],
        ['sluice prune --notifications 365 --yes', 'and notifications that are older than a year'],
        ['sluice prune --facts 365 --yes', 'and what posts, gates, follows and lists were until a year ago'],
      ),
    )
    .action((options: Options) => cli.run((session) => prune(session, options)))
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
  const rules = [await tombstones(session, options.tombstones)]
  if (options.notifications !== undefined) rules.push(notifications(options.notifications))
  if (options.facts !== undefined) rules.push(facts(options.facts))
  const results: ({ table: string; before: string } & Sample)[] = []
  for (const rule of rules) {
    const { table, beforeTime } = rule
    const { batch } = options
    const found: Sample = options.yes
      ? { rows: await remove(db, rule, batch, signal) }
      : await sample(db, rule, batch, signal)
    results.push({ table, before: beforeTime, ...found })
    const of = found.part ? ` of the first ${count(found.part.looked)}, of about ${count(found.part.of)} in all,` : ''
    out.line(
      `${table}: ${options.yes ? 'removed' : 'would remove'} ${count(found.rows)} rows${of} from before ${beforeTime}`,
    )
  }
  out.document({ done: options.yes === true, results })
  if (!options.yes) out.line('Nothing was done; add --yes to do it.')
  return EXIT.done
}

/** @throws CannotError when an event that is older than these tombstones may still arrive */
async function tombstones(session: Session, days: number): Promise<Rule> {
  const redis = await session.redis()
  const names = streamsOf(session.settings)
  const { streams } = await inspect(redis, { streams: names })
  const letters = await Promise.all(names.map((stream) => oldestLetterMs(redis, stream)))
  const nowMs = Date.now()
  const beforeMs = nowMs - days * DAY_MS
  const waitingMs = Math.max(0, ...streams.map(({ oldest }) => oldest?.ageSeconds ?? 0)) * 1_000
  if (beforeMs > nowMs - waitingMs - DAY_MS) {
    const needed = Math.ceil((waitingMs + DAY_MS) / DAY_MS)
    throw new CannotError(
      waitingMs === 0
        ? 'tombstones of the last day are needed: what the daemons have in hand, or an upstream sends again, would bring deleted records back'
        : `tombstones of the last ${needed} days are needed: entries that old still wait in the streams, and would bring deleted records back`,
    )
  }
  const oldestLetter = Math.min(nowMs, ...letters.map((ms) => ms ?? Infinity))
  if (beforeMs > oldestLetter - DAY_MS) {
    throw new CannotError(
      `tombstones are needed: a dead letter is older, or does not say when it came, and would bring deleted records back when it is tried again; one that was put back may still wait in its stream. Look at them with \`sluice dlq list\`, then retry or drop them`,
    )
  }
  const before = new Date(beforeMs).toISOString()
  return { table: 'tombstone', key: 'uri', time: 'deletedAt', before, beforeTime: before, first: '' }
}

function notifications(days: number): Rule {
  const before = new Date(Date.now() - days * DAY_MS).toISOString()
  return { table: 'notification', key: 'id', time: 'sortAt', before, beforeTime: before, first: 0 }
}

/** The rule for past facts, whose times are TIDs. */
function facts(days: number): Rule {
  const beforeMs = Math.floor(Date.now() - days * DAY_MS)
  const before = tidFromMicros(Math.max(0, beforeMs) * 1_000)
  return { table: 'past_fact', key: 'uri', time: 'until', before, beforeTime: new Date(beforeMs).toISOString(), first: '' } // prettier-ignore
}

/** How many rows are old: of all rows, or of as many as a dry run reads. */
interface Sample {
  rows: number
  /** How many rows were read, and how many there are; absent when all were read. */
  part?: { looked: number; of: number }
}

/**
 * The most rows that a dry run reads. No index leads to old rows, and to read all of a large table takes hours. A dry
 * run only tells whether anything objects, and about how much would be removed.
 */
const LOOKED_MAX = 100_000

async function sample(db: DatabasePool, rule: Rule, batch: number, signal: AbortSignal): Promise<Sample> {
  const { table, key, time } = rule
  const step = `
    select count(*) filter (where at < $2)::int as old, count(*)::int as looked, max(key) as last
      from (select "${key}" as key, "${time}" as at from ${table} where "${key}" > $1 order by "${key}" limit $3) page`
  let [old, looked] = [0, 0]
  for await (const page of pages<{ old: number }>(db, step, rule, batch, signal)) {
    old += page.old
    looked += page.looked
    if (page.looked < batch) return { rows: old }
    if (looked >= LOOKED_MAX) break
  }
  const { rows } = await db.query<{ of: number }>(
    'select reltuples::float8 as of from pg_class where oid = $1::regclass',
    [table],
  )
  return { rows: old, part: { looked, of: Math.max(looked, rows[0]!.of) } }
}

/** Removes old rows, and returns how many. Rows that a batch has locked are left for the next time. */
async function remove(db: DatabasePool, rule: Rule, batch: number, signal: AbortSignal): Promise<number> {
  const { table, key, time } = rule
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
  for await (const { gone } of pages<{ gone: number }>(db, step, rule, batch, signal)) {
    removed += gone
    await delay(PAUSE_MS)
  }
  return removed
}

interface Page {
  /** How many rows this step read; fewer than a batch means that they were the last ones. */
  looked: number
  last: string | number
}

/**
 * Runs a step for each part of the table, in the order of its key, and yields what it found.
 * @param step a statement with three values: the key after which it begins, the time before which rows are old, how
 * many rows it reads
 */
async function* pages<Found>(
  db: DatabasePool,
  step: string,
  { before, first }: Rule,
  batch: number,
  signal: AbortSignal,
): AsyncGenerator<Page & Found> {
  for (let after = first; !signal.aborted;) {
    const { rows } = await db.query<Page & Found>(step, [after, before, batch])
    const page = rows[0]!
    yield page
    if (page.looked < batch) return
    after = page.last
  }
}

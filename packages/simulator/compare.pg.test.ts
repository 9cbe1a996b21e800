/**
 * What the comparison with the truth is worth: worlds that are applied in this process, by their commits and by exports
 * in between, are what their truth says; whatever is wrong in any column of any table that comes from the firehose is
 * seen; and no such table is left out. More worlds: `WORLDS=1-200`.
 */
import { collections } from '@sluice/collections/collections.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { applyLabels } from '@sluice/indexing/apply-labels.ts'
import { exportOf } from '@sluice/indexing/testing/exports.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { settleAll } from '@sluice/indexing/testing/settle-all.ts'
import type { RecordEvent, RepoEvent, StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { censusOf } from './census.ts'
import { COMPARED_TABLES, differences, readTables, tableDifferences } from './compare.ts'
import type { Row } from './true-rows.ts'
import type { Truth } from './truth.ts'
import { World } from './world.ts'

const [FIRST = 1, LAST = FIRST] = (process.env.WORLDS ?? '3-4').split('-').map(Number)
const SEEDS = Array.from({ length: LAST - FIRST + 1 }, (_, i) => FIRST + i)
const OPERATIONS = 700

/** Tables that the AppView or its operators fill, not the firehose. */
const FROM_ELSEWHERE = [
  'actor_state', 'activity_subscription', 'blob_takedown', 'bookmark', 'did_cache', 'draft', 'list_mute', 'moderation_action', 'moderation_action_subject_blob', 'moderation_event', 'moderation_report',
  'moderation_report_resolution', 'moderation_subject_status', 'mute', 'notification_push_token', 'private_data', 'subscription', 'suggested_feed', 'suggested_follow', 'tagged_suggestion', 'thread_mute', 'view_param',
] // prettier-ignore
/** Tables by which the index finds its way, and those of its schema. No reader reads them. */
const OUR_OWN = [
  'account_check', 'account_deletion', 'bulk_index', 'bulk_load', 'bulk_step', 'gated_reply', 'handle_check', 'past_fact', 'settle_later', 'tombstone',
  'sluice_migration', 'kysely_migration', 'kysely_migration_lock',
] // prettier-ignore
/** Tables that plugins bring by their own scripts: the people of the simulated world write no such records. */
const OF_PLUGINS = collections
  .filter(({ migrations }) => migrations.length > 0)
  .flatMap(({ tables, counters, aggregateRows }) => [
    ...tables.map(({ name }) => name),
    ...[...counters, ...aggregateRows].map(({ table }) => table),
  ])
/** What no truth knows of: counters of rows, and what is ours alone. And what the tables' keys forbid. */
const UNSEEN = [
  'actor.indexedAt', 'actor_sync.accountAt', 'actor_sync.resyncRev', 'notification.id', 'post_agg.a row twice', 'profile_agg.a row twice', 'record.fromExport', 'record.rev',
] // prettier-ignore

/** A small world, applied: what it knows to be true. */
async function applied(index: Index, seed: number): Promise<Truth> {
  const random = new Random(seed * 31)
  const commits: (readonly RecordEvent[])[] = []
  const accounts = 4 + random.below(12)
  const onCommit = (commit: readonly RecordEvent[]): void => void commits.push(commit)
  await using world = await World.start({ seed, accounts, large: 0, relays: 1, hosts: 1, strange: 0, onCommit })
  while (world.operations < OPERATIONS) world.next()
  // It is labelled at the end.
  world.finish()
  const batches = arrivals(commits, [...world.truth.statuses.keys()], random).values()
  const lane = async (): Promise<void> => {
    for (const batch of batches) await applyBatch(index, batch)
  }
  await Promise.all([lane(), lane(), lane()])
  const labels = [...world.truth.labels.values()]
  await applyLabels(
    index.db,
    labels.map(({ exp, ...label }) => ({ type: 'label', label: { ...label, ...(exp !== null && { exp }) } })),
  )
  await settleAll(index)
  return world.truth
}

/**
 * Commits, some late and some twice; exports of some accounts at some moments, and some of the commits before these not
 * at all.
 */
function arrivals(
  commits: readonly (readonly RecordEvent[])[],
  dids: readonly string[],
  random: Random,
): StreamEvent[][] {
  const time = new Date().toISOString()
  const units = commits.map((events, i): [at: number, StreamEvent[]] => [
    i + random.below(random.chance(0.2) ? 400 : 5),
    [...events],
  ])
  const missing = new Set<number>()
  for (const did of dids) {
    for (let n = random.below(4); n > 0; n--) {
      const end = 1 + random.below(commits.length)
      const chunks = exportOf({ until: commits.slice(0, end).flat(), did, time, random, chunk: 40 })
      const events = chunks.flat()
      if (events.length === 0) continue
      const { commit, rev } = events[0] as RepoEvent
      // Its end says how far the account is indexed.
      units.push([random.below(commits.length + 400), [...events, { type: 'repo', time, did, commit, rev }]])
      if (random.chance(0.4)) continue
      for (const [i, [event]] of commits.slice(0, end).entries())
        if (event!.did === did && random.chance(0.7)) missing.add(i)
    }
  }
  const coming = units.filter((_, i) => !missing.has(i))
  const again = coming
    .filter(() => random.chance(0.1))
    .map(([at, events]): (typeof units)[0] => [at + random.below(300), events])
  const inOrder = [...coming, ...again].sort(([a], [b]) => a - b).map(([, events]) => events)
  const batches: StreamEvent[][] = []
  while (inOrder.length > 0) batches.push(inOrder.splice(0, 1 + random.below(20)).flat())
  return batches
}

test.for(SEEDS)(
  'C1, C6 the world of seed %i ends in its truth, with exports among its commits',
  async (seed, { database }) => {
    await using index = indexOn(database)
    const truth = await applied(index, seed)
    expect(await differences(index.db, truth)).toEqual([])
  },
)

test('a wrong column, a missing row and one too many are differences, in every table that comes from the firehose', async ({
  database,
}) => {
  await using index = indexOn(database)
  const truth = await applied(index, 5)
  const tables = await readTables(index.db)
  expect(tableDifferences(tables, truth)).toEqual([])
  const unseen = COMPARED_TABLES.flatMap((table) => {
    const faults = faultsIn(tables.get(table)!)
    expect(faults.size, table).toBeGreaterThan(1)
    return [...faults].flatMap(([what, spoilt]) => {
      const isSeen = spoilt.some(
        (rows) => tableDifferences(new Map([...tables, [table, rows]]), truth, table).length > 0,
      )
      return isSeen ? [] : [`${table}.${what}`]
    })
  })
  expect(unseen.sort()).toEqual(UNSEEN)
  // A verdict that is never true is not compared with much, nor is a rule that never admits anybody.
  const census = censusOf(truth)
  const rules = ['mentionRule', 'followerRule', 'followingRule', 'listRule'].map((rule) => `let in by ${rule}`)
  const verdicts = ['invalidReplyRoot', 'violatesThreadGate', 'violatesEmbeddingRules'].flatMap((verdict) => {
    return [`post.${verdict} true`, `post.${verdict} false`]
  })
  expect([...rules, ...verdicts].filter((kind) => !census.has(kind))).toEqual([])
}, 240_000)

test('no table of the schema is left out of the comparison by mistake', async ({ database }) => {
  await using index = indexOn(database)
  const { rows } = await index.db.query<{ name: string }>(
    `select table_name as name from information_schema.tables where table_schema = 'bsky' and table_type = 'BASE TABLE'`,
  )
  const known = new Set([...COMPARED_TABLES, ...FROM_ELSEWHERE, ...OUR_OWN, ...OF_PLUGINS])
  expect(rows.map(({ name }) => name).filter((name) => !known.has(name))).toEqual([])
})

/** The rows of a table with one fault, by what is wrong; a few rows are tried for each. */
function faultsIn(rows: readonly Row[]): Map<string, Row[][]> {
  const step = Math.max(1, Math.floor(rows.length / 5))
  const tried = [...rows.keys()].filter((i) => i % step === 0)
  const faults = new Map<string, Row[][]>()
  const columns = Object.keys(rows[0] ?? {})
  for (const column of columns) {
    const spoilt = tried.map((at) => rows.map((row, i) => (i === at ? { ...row, [column]: spoil(row[column]) } : row)))
    faults.set(column, spoilt)
  }
  if (rows.length === 0) return faults
  faults.set('a row', [rows.slice(1)])
  faults.set('a row twice', [[...rows, rows[0]!]])
  return faults
}

function spoil(value: unknown): unknown {
  if (typeof value === 'boolean' || value === null) return value !== true
  if (typeof value === 'number') return value + 1
  return typeof value === 'string' ? `${value.slice(0, -1)}~` : []
}

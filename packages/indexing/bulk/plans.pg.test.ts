/**
 * What `bulk finish` asks, of tables that look large: the planner is told that each holds a hundred million rows. A
 * table is read from end to end where a step is about all of it, and nowhere for each page or each account.
 */
import { collections } from '@sluice/collections/collections.ts'
import forumPost from '@sluice/collections/space.atbb/post.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool, type PoolOptions, type Statement } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'
import { history } from '../testing/history.ts'
import { multiply } from '../testing/multiply.ts'
import { beginBulkLoad } from './begin.ts'
import { finishBulkLoad, finishConnections } from './finish.ts'
import type { FinishProgress } from './step.ts'

const EVENTS = [3, 4, 8].flatMap((seed) => history({ seed, events: 300 }))
const ROWS = 3_000

type PoolClient = Awaited<ReturnType<DatabasePool['acquire']>>
type Query = (statement: unknown, values?: unknown[]) => Promise<{ rows: { 'QUERY PLAN': [{ Plan: Node }] }[] }>

interface Node {
  'Node Type': string
  'Index Name'?: string
  'Relation Name'?: string
  'Index Cond'?: string
  Plans?: Node[]
}

interface Plans {
  underWay: Promise<void>[]
  /** What is read from end to end, by which statement. */
  wholes: Set<string>
}

/** Has each statement planned once more, with its values. */
class PlanningPool extends DatabasePool {
  readonly plans: Plans
  readonly #own: PoolOptions
  readonly #watched = new WeakSet<PoolClient>()

  constructor(options: PoolOptions, plans: Plans = { underWay: [], wholes: new Set() }) {
    super(options)
    this.#own = options
    this.plans = plans
  }

  override alike(changes: Partial<PoolOptions>): DatabasePool {
    return new PlanningPool({ ...this.#own, ...changes }, this.plans)
  }

  override async acquire(signal?: AbortSignal): Promise<PoolClient> {
    const client = await super.acquire(signal)
    if (this.#watched.has(client)) return client
    this.#watched.add(client)
    const query = client.query.bind(client) as unknown as Query
    const planning: Query = (statement, values) => {
      const answer = query(statement, values)
      const { text, values: own = values } = typeof statement === 'string' ? { text: statement } : (statement as Statement) // prettier-ignore
      if (/^\s*(select|insert|update|delete|with)\b/.test(text)) {
        // Of one that failed, it says so itself.
        this.plans.underWay.push(
          query({ text: `explain (format json) ${text}`, values: own }).then(
            ({ rows }) => this.#note(text, rows[0]!['QUERY PLAN'][0].Plan),
            () => {},
          ),
        )
      }
      return answer
    }
    client.query = planning as unknown as PoolClient['query']
    return client
  }

  #note(text: string, node: Node): void {
    const { 'Node Type': type, 'Relation Name': table, 'Index Cond': condition, Plans: below = [] } = node
    // A heap is read as an index said, and is written to.
    const isOther = table === undefined || type === 'Bitmap Heap Scan' || type === 'ModifyTable'
    if (!isOther && condition === undefined && !/^(bulk|pg)_/.test(table)) {
      this.plans.wholes.add(`${table}: ${text.replaceAll(/\s+/g, ' ').trim()}`)
    }
    for (const each of below) this.#note(text, each)
  }
}

/** Until a step has been announced; undefined: to the end. */
async function finishUntil(db: PlanningPool, set: CollectionSet, until: string | undefined): Promise<void> {
  const stop = new AbortController()
  const onProgress = ({ step, at }: FinishProgress): void => {
    if (step === until && at === '') stop.abort()
  }
  await finishBulkLoad(db, set, { signal: stop.signal, onProgress, jobs: 1 }).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error
  })
}

test('no table is read from end to end but to find its duplicates', async ({ database }) => {
  await using db = new PlanningPool({ url: database, schema: 'bsky', size: finishConnections(1), role: 'test', statementMs: 0 }) // prettier-ignore
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await beginBulkLoad(db, index.collections)
  for (let at = 0; at < EVENTS.length; at += 40) await applyBatch(index, EVENTS.slice(at, at + 40))
  await multiply(db, ROWS)
  await Promise.all(db.plans.underWay)
  db.plans.wholes.clear()
  // Before each of these steps another has built indexes, or counted what the tables hold.
  for (const next of ['duplicates', 'unique-indexes', 'counters', 'posts', undefined]) {
    await finishUntil(db, index.collections, next)
    await db.query(
      `update pg_class set reltuples = 1e8, relpages = pg_relation_size(oid) / 8192
       where relnamespace = 'bsky'::regnamespace and relkind in ('r', 'i') and pg_relation_size(oid) > 8192`,
    )
  }
  const { rows: waiting } = await db.query<{ n: number }>('select count(*)::int as n from duplicate_record')
  expect(waiting[0]!.n).toBeGreaterThan(ROWS)
  const unique = index.collections.plugins.filter((plugin) => plugin.unique.length > 0)
  await Promise.all(db.plans.underWay)
  const wholes = [...db.plans.wholes]
  const isForDuplicates = (what: string): boolean => / group by .+ having count\(\*\) > 1 /.test(what)
  const counting = 'duplicate_record: select count(*)::int as n from duplicate_record'
  expect(wholes.filter((what) => !isForDuplicates(what))).toEqual([counting])
  expect(wholes.filter(isForDuplicates)).toHaveLength(unique.length)
})

test('each column by which is counted is the first of an index', async ({ database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 1, role: 'test' })
  for (const { sql } of forumPost.migrations) await db.query(sql)
  const { rows } = await db.query<{ first: string }>(`
    select t.relname || '.' || attname as first from pg_index join pg_class t on t.oid = indrelid
    join pg_attribute a on a.attrelid = t.oid and a.attnum = indkey[0]
    where relnamespace = 'bsky'::regnamespace and (indpred is null or pg_get_expr(indpred, t.oid) like '%' || attname || '%IS NOT NULL)')`)
  const counters = [...collections, forumPost].flatMap((plugin) => plugin.counters)
  const counted = counters.map(({ of, by }) => `${of.name}.${by}`)
  expect(counted).toContain('atbb_post.forum')
  expect(rows.map(({ first }) => first)).toEqual(expect.arrayContaining(counted))
})

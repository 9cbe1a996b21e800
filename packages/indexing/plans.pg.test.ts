/**
 * Rows are found by key, whatever the planner believes. It plans a statement by what it is told of the tables, and
 * keeps the plan; both may be from when they were nearly empty, where reading a whole index costs as little as a look
 * into it, and each index is as good as another.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { describe } from 'vitest'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { Index } from './apply-batch.ts'
import { beginBulkLoad } from './bulk/begin.ts'
import { finishBulkLoad, finishConnections } from './bulk/finish.ts'
import { KnownActors } from './own.ts'
import { history } from './testing/history.ts'
import { beginLife, liveThrough } from './testing/live-path.ts'
import { multiply } from './testing/multiply.ts'
import { WatchedPool, type Asked, type Reading } from './testing/watched-pool.ts'

/** Together they ask every statement. */
const HISTORIES = [3, 4, 8].map((seed) => history({ seed, events: 450, editsVerifications: true }))
const BEFORE = HISTORIES.flatMap((events) => events.slice(0, 250))
const EVENTS = HISTORIES.flatMap((events) => events.slice(250))
const ROWS = 3_000

type Watched = Index & AsyncDisposable & { db: WatchedPool }

/** An index with one connection, which keeps the first plan of each statement as all do in time. */
function indexOn(url: string, { keepsPlans = true } = {}): Watched {
  const options = keepsPlans ? '?options=-c%20plan_cache_mode%3Dforce_generic_plan' : ''
  const db = new WatchedPool({ url: url + options, schema: 'bsky', size: 1, role: 'test', byKey: true })
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  return { ...index, [Symbol.asyncDispose]: () => db.close() }
}

let all: Promise<ReadonlyMap<string, Asked>> | undefined

/** Each statement of the data path, with values that it is asked with. */
function statementsOf(url: string): Promise<ReadonlyMap<string, Asked>> {
  return (all ??= (async () => {
    await using index = indexOn(url)
    await beginLife(index, BEFORE)
    await liveThrough({ url, index, before: BEFORE, events: EVENTS })
    return index.db.asked
  })())
}

/** The tables keep these statistics, whatever becomes of them. */
async function countOnce({ db }: Index): Promise<void> {
  await db.query(`do $$ declare name text; begin
    for name in select relname from pg_class where relnamespace = 'bsky'::regnamespace and relkind = 'r' loop
      execute format('alter table %I set (autovacuum_enabled = off)', name);
    end loop; end $$`)
  await db.query('analyze')
}

/** Has the connection plan each statement, and leaves nothing of what it does. */
async function planEach({ db }: Watched, statements: ReadonlyMap<string, Asked>): Promise<void> {
  for (const [name, { text, values }] of statements) {
    await db.session(async (session) => {
      await session.query('savepoint before')
      await session.query({ name, text }, values)
      await session.query('rollback to savepoint before')
    })
  }
  db.asked.clear()
}

/**
 * Several looks for each thing that is asked for or comes of it: those that a post's ancestors or a range's records
 * take are some. Of these tables 3,000 rows are many.
 */
const isTooMuch = ({ read, for: asked, rows }: Reading): boolean => read > 100 + 20 * (asked + rows)

function excessOf(asked: ReadonlyMap<string, Asked>): string[] {
  return [...asked].flatMap(([name, { times }]) => {
    const [worst] = times.filter(isTooMuch).sort((a, b) => b.read - a.read)
    return worst ? [`${name}: read ${worst.read} for ${worst.for}, of which came ${worst.rows}`] : []
  })
}

/**
 * Has the indexes made anew, those of unique keys last: of two that cost the same the planner takes the younger one.
 */
async function remakeIndexes(url: string): Promise<void> {
  await using db = new DatabasePool({ url, schema: 'bsky', size: finishConnections(1), role: 'test', statementMs: 0 })
  const set = new CollectionSet(collections)
  await beginBulkLoad(db, set)
  await finishBulkLoad(db, set, { signal: new AbortController().signal, jobs: 1 })
}

describe.for([
  { counted: 'empty', events: 0, remade: false },
  { counted: 'empty, by a first load', events: 0, remade: true },
  { counted: 'all but empty', events: 20, remade: false },
  { counted: 'small', events: 200, remade: true },
])('planned when the tables were $counted', ({ events: first, remade }) => {
  test('no statement reads much more than it is asked for when they are large', async ({ database, otherDatabase }) => {
    const statements = await statementsOf(otherDatabase)
    if (remade) await remakeIndexes(database)
    await using index = indexOn(database)
    await beginLife(index, BEFORE.slice(0, first))
    await countOnce(index)
    await planEach(index, statements)
    await beginLife(index, BEFORE.slice(first))
    await grow(index)
    await liveThrough({ url: database, index, before: BEFORE, events: EVENTS })
    expect(index.db.asked.size).toBeGreaterThan(130)
    expect(excessOf(index.db.asked)).toEqual([])
  })

  test('no statement may read an index or a table from end to end', async ({ database, otherDatabase }) => {
    const statements = await statementsOf(otherDatabase)
    if (remade) await remakeIndexes(database)
    await using index = indexOn(database)
    await beginLife(index, BEFORE.slice(0, first))
    await countOnce(index)
    const firstColumns = await firstColumnsOf(index)
    const scans: string[] = []
    for (const [name, { text }] of statements) {
      const nodes = await planOf(index, text)
      scans.push(...nodes.flatMap((node) => wholeScan(node, firstColumns)).map((what) => `${name}: all of ${what}`))
    }
    expect(scans).toContain('bulk-phase: all of bulk_load')
    // One row at most.
    const isBulkLoad = (scan: string): boolean => / bulk_load(_pkey)?$/.test(scan)
    expect(scans.filter((scan) => !isBulkLoad(scan))).toEqual([])
  })
})

describe.for([
  { counted: 'when they are large', when: true, keepsPlans: true },
  { counted: 'when they are large, and are planned for each value', when: true, keepsPlans: false },
  { counted: 'never', when: false, keepsPlans: true },
])('of tables that were counted $counted', ({ when, keepsPlans }) => {
  test('no statement reads much more than it is asked for', async ({ database }) => {
    await using index = indexOn(database, { keepsPlans })
    await beginLife(index, BEFORE)
    await grow(index)
    if (when) await countOnce(index)
    await liveThrough({ url: database, index, before: BEFORE, events: EVENTS })
    expect(excessOf(index.db.asked)).toEqual([])
  })
})

test.for([0, 20, ROWS])(
  'a key of several columns is looked for by its own index, whatever others begin with one of them (%i rows)',
  async (rows, { database, otherDatabase }) => {
    const statements = await statementsOf(otherDatabase)
    await using index = indexOn(database)
    if (rows > 0) await beginLife(index, BEFORE.slice(0, rows))
    if (rows === ROWS) await grow(index)
    await countOnce(index)
    const byKey = [...statements].filter(([, { text }]) => / limit 1\)/.test(text) && /\) >= \(.+\) <= \(/.test(text))
    expect(byKey.length).toBeGreaterThan(8)
    for (const [name, { text }] of byKey) {
      const conditions = (await planOf(index, text)).map((node) => node['Index Cond'] ?? '')
      expect(conditions.join(), name).toMatch(/ROW\(.* >= ROW\(.* <= ROW\(/)
    }
  },
)

/** These are for one account, whose purges made the few revs that are compared. */
const FEW_VALUES = ['delete-marks-of-purge', 'reopen-account']

test('no statement compares each of its rows with each of its values', async ({ database, otherDatabase }) => {
  const statements = await statementsOf(otherDatabase)
  await using index = indexOn(database)
  const compared: string[] = []
  for (const [name, { text }] of statements) {
    const conditions = (await planOf(index, text)).flatMap((node) => [node.Filter, node['Join Filter']])
    if (conditions.some((condition) => condition && / = ANY \(\$\d+\)/.test(condition))) compared.push(name)
  }
  expect(compared.sort()).toEqual(FEW_VALUES)
})

async function grow({ db }: Watched): Promise<void> {
  const counts = await multiply(db, ROWS)
  expect([...counts].filter(([, rows]) => rows < 0.9 * ROWS)).toEqual([])
  db.asked.clear()
}

/** The plan for whatever values, as a connection keeps it (`explain (generic_plan)` is of 16). */
async function planOf({ db }: Watched, text: string): Promise<Node[]> {
  return db.session(async (session) => {
    await session.query(`set local plan_cache_mode to force_generic_plan`)
    await session.query(`prepare looked_at as ${text}`)
    const { rows: prepared } = await session.query<{ values: string | null }>(`
      select '(' || nullif(array_to_string(array_fill('null'::text, array[cardinality(parameter_types)]), ', '), '') || ')' as values
      from pg_prepared_statements where name = 'looked_at'`)
    const statement = `explain (format json) execute looked_at ${prepared[0]!.values ?? ''}`
    const { rows } = await session.query<{ 'QUERY PLAN': [{ Plan: Node }] }>(statement)
    await session.query('deallocate looked_at')
    return nodesOf(rows[0]!['QUERY PLAN'][0].Plan)
  })
}

function nodesOf(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)]
}

interface Node {
  'Node Type': string
  'Index Name'?: string
  'Relation Name'?: string
  'Index Cond'?: string
  Filter?: string
  'Join Filter'?: string
  Plans?: Node[]
}

/** By index, the name of its first column, or of that which its first expression is about. */
async function firstColumnsOf({ db }: Index): Promise<Map<string, string>> {
  const { rows } = await db.query<{ index: string; first: string }>(`
    select relname as index, (regexp_match(pg_get_indexdef(oid, 1, true), '\\w+'))[1] as first
    from pg_class where relnamespace = 'bsky'::regnamespace and relkind = 'i'`)
  return new Map(rows.map(({ index, first }) => [index, first]))
}

/** What is read from end to end: of an index also where nothing is said of its first column. */
function wholeScan(node: Node, firstColumns: ReadonlyMap<string, string>): string[] {
  const { 'Node Type': type, 'Index Name': index, 'Index Cond': condition = '' } = node
  const isWhole = index === undefined ? type === 'Seq Scan' : !condition.includes(firstColumns.get(index)!)
  return isWhole ? [index ?? node['Relation Name']!] : []
}

test('a unique key is named in the order of its index, by which alone it is looked for', async ({ database }) => {
  await using index = indexOn(database)
  const { rows } = await index.db.query<{ key: string }>(`
    select relname || ': ' || array_to_string(array(
      select attname from unnest(conkey) with ordinality as k (n, i) join pg_attribute a on a.attrelid = conrelid and attnum = n order by i
    ), ', ') as key
    from pg_constraint c join pg_class on pg_class.oid = conrelid where contype = 'u' and connamespace = 'bsky'::regnamespace`)
  const keys = index.collections.plugins.flatMap(({ tables: [primary], unique }) =>
    unique.length > 0 ? [`${primary!.name}: ${unique.join(', ')}`] : [],
  )
  expect(keys.length).toBeGreaterThan(7)
  expect(rows.map(({ key }) => key)).toEqual(expect.arrayContaining(keys))
})

/** Asked by other services than the indexer, or for a gauge. */
const ELSEWHERE = ['store-identities', 'oldest-deletions', 'oldest-account-checks', 'oldest-later', 'waiting-later']

test('the statements that are tried here are all of the data path', async ({ otherDatabase }) => {
  const asked = [...(await statementsOf(otherDatabase)).keys()]
  const rooms = [import.meta.dirname, join(import.meta.dirname, '../collections/threads')]
  const sources = rooms.flatMap((room) =>
    readdirSync(room).flatMap((file) =>
      file.endsWith('.ts') && !file.includes('.test.') ? [readFileSync(join(room, file), 'utf8')] : [],
    ),
  )
  const named = sources.flatMap((source) => [...source.matchAll(/\bname: (['`])(.+?)\1/g)].map(([, , name]) => name!))
  expect(named.length).toBeGreaterThan(80)
  const forms = named.map((name) => new RegExp(`^${name.replace(/\$\{.*?\}/g, '.*')}$`))
  const unasked = named.filter((name, i) => !ELSEWHERE.includes(name) && !asked.some((one) => forms[i]!.test(one)))
  expect(unasked).toEqual([])
})

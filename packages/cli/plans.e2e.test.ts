/**
 * An operator who asks about one thing is answered at once, however large the index is, and what goes through a table
 * goes through it once. What a command reads PostgreSQL counts itself.
 *
 * The tables only look large: the planner is told that each holds a hundred million rows.
 */
import { readFileSync } from 'node:fs'
import type { RepoExport } from '@sluice/atproto/repo-export.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { beginLife } from '@sluice/indexing/testing/live-path.ts'
import { multiply } from '@sluice/indexing/testing/multiply.ts'
import { tell } from '@sluice/indexing/testing/rows-read.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { SCHEMA } from '@sluice/sandbox/template.ts'
import { describe } from 'vitest'
import { Output } from './output.ts'
import { sampleAccounts } from './sample-accounts.ts'
import { Session } from './session.ts'
import { runCli } from './testing/run.ts'
import { compareRepo, forgetAge } from './verify-repo.ts'

const set = new CollectionSet(collections)
const DOCUMENT = readFileSync(new URL('../../DATAPLANE_DEBUG.md', import.meta.url), 'utf8')
/** What it asks by psql; but queues whose accounts are to be counted. */
const QUESTIONS = [...DOCUMENT.matchAll(/^psql "\$DB_POSTGRES_URL" -c '(\(?(?:select|show) .+)'$/gm)].flatMap(
  ([, sql]) => (/ from bsky\.account_(check|deletion) group by /.test(sql!) ? [] : [sql!]),
)
const EVENTS = [3, 4, 8].flatMap((seed) => history({ seed, events: 300 }))
const ROWS = 3_000
/** An account has some thirty records, and about as many follow it. */
const LITTLE = 200

interface Scene {
  db: DatabasePool
  env: Record<string, string>
}

describe.for([
  { counted: 'by analyze', analyzed: true },
  { counted: 'by vacuum alone', analyzed: false },
])('of an index that was counted $counted', ({ analyzed }) => {
  test('what is asked about one thing, or about all at once, reads little', async ({ database, redisUrl }) => {
    await withScene({ database, redisUrl, analyzed }, async (scene) => {
      const { rows } = await scene.db.query<{ uri: string }>(
        `select distinct on (split_part(uri, '/', 4)) uri from record order by split_part(uri, '/', 4), uri`,
      )
      const uris = rows.map(({ uri }) => uri)
      const post = uris.find((uri) => uri.includes('/app.bsky.feed.post/'))!
      const { did } = EVENTS[0]!
      const lines = [
        'status',
        'doctor',
        'migrate --check',
        'bulk status',
        ...[did, ...uris].map((subject) => `explain --offline ${subject}`),
        ...[did, post].flatMap((key) => [`recount --check --key ${key}`, `recount --key ${key}`]),
      ]
      for (const line of lines) {
        const reads = await readsOf(scene, async () => done(await runCli(line.split(' '), scene.env)))
        expect({ line, ...sumOf(reads) }).toMatchObject({ line, read: expect.toSatisfy((n) => n < LITTLE) as number })
      }
      const reads = await readsOf(scene, () => verify(scene, did))
      expect(sumOf(reads).read).toBeLessThan(3 * LITTLE)
      const sampling = await readsOf(scene, () => sample(scene, LITTLE / 10))
      expect(sumOf(sampling)).toMatchObject({ read: expect.toSatisfy((n) => n < LITTLE) as number })
      expect(QUESTIONS.length).toBeGreaterThan(20)
      for (const question of QUESTIONS) {
        const reads = await readsOf(scene, () => queryOnce(database, question))
        expect({ question, ...sumOf(reads) }).toMatchObject({ question, read: expect.toSatisfy((n) => n < LITTLE) as number }) // prettier-ignore
      }
    })
  })

  test('what goes through a table goes through it once', async ({ database, redisUrl }) => {
    await withScene({ database, redisUrl, analyzed }, async (scene) => {
      const counted = await readsOf(scene, async () => done(await runCli(['recount'], scene.env)))
      for (const table of ['like', 'post', 'follow', 'repost', 'quote']) {
        expect({ table, ...counted.get(table) }).toMatchObject({ table, whole: 0 })
        expect(counted.get(table)!.byKey).toBeGreaterThan(ROWS * 0.9)
      }
      const prune = 'prune --tombstones 1 --notifications 1 --facts 1 --batch 100'.split(' ')
      // To remove a row takes three looks.
      for (const [args, most] of [
        [prune, 1.1],
        [[...prune, '--yes'], 3.3],
      ] as const) {
        const pruned = await readsOf(scene, async () => done(await runCli(args, scene.env)))
        for (const table of ['tombstone', 'notification', 'past_fact']) {
          const { whole, byKey } = pruned.get(table)!
          expect({ table, whole }).toEqual({ table, whole: 0 })
          expect(byKey).toBeGreaterThan(ROWS * 0.9)
          expect({ table, byKey }).toMatchObject({ table, byKey: expect.toSatisfy((n) => n < most * 1.2 * ROWS) as number }) // prettier-ignore
        }
      }
    })
  })
})

function done(said: Awaited<ReturnType<typeof runCli>>): void {
  // 1: something is wrong with what is counted, or with Redis.
  expect(said).toMatchObject({ code: expect.toSatisfy((code) => code === 0 || code === 1) as number, stderr: '' })
}

async function withScene(
  { database, redisUrl, analyzed }: { database: string; redisUrl: string; analyzed: boolean },
  act: (scene: Scene) => Promise<void>,
): Promise<void> {
  await using db = new DatabasePool({ url: database, schema: SCHEMA, size: 1, role: 'test', byKey: true })
  await db.query(`do $$ declare name text; begin
    for name in select relname from pg_class where relnamespace = 'bsky'::regnamespace and relkind = 'r' loop
      execute format('alter table %I set (autovacuum_enabled = off)', name);
    end loop; end $$`)
  await beginLife({ db, collections: set, actors: new KnownActors() }, EVENTS)
  await multiply(db, ROWS)
  if (analyzed) await db.query('analyze')
  await db.query(
    `update pg_class set reltuples = 1e8, relpages = pg_relation_size(oid) / 8192
     where relnamespace = 'bsky'::regnamespace and relkind in ('r', 'i') and pg_relation_size(oid) > 8192`,
  )
  await act({ db, env: { DB_POSTGRES_URL: database, REDIS_URL: redisUrl, METRICS_PORT: '0' } })
}

/** A repository that has all that the index has of it but one record, and one that the index lacks. */
async function verify({ db, env }: Scene, did: string): Promise<void> {
  const { rows } = await db.query<{ uri: string; cid: string; json: string }>(
    `select uri, cid, json from record where uri >= $1 || '/' and uri < $1 || '0' order by uri`,
    [`at://${did}`],
  )
  const records = [...rows.slice(1), { ...rows.at(-1)!, uri: `${rows.at(-1)!.uri}z`, cid: 'bafyother' }]
  const repo = {
    did,
    rev: '3zzzzzzzzzzzz',
    commit: 'bafycommit',
    *records() {
      for (const { uri, cid, json } of records) {
        const path = uri.slice(`at://${did}/`.length)
        const [collection, rkey] = path.split('/')
        yield { path, collection, rkey, cid, record: JSON.parse(json) as unknown, bytes: json.length }
      }
    },
  } as unknown as RepoExport
  await using session = new Session(env, new Output({ json: false, colour: false, write: () => {} }), NEVER)
  const comparison = await compareRepo(await session.db(), set, repo, { time: new Date().toISOString() })
  expect(comparison.differing.map(({ difference }) => difference).sort()).toEqual(['extra', 'missing'])
  await forgetAge(await session.db(), comparison)
}

async function sample({ env }: Scene, count: number): Promise<void> {
  await using session = new Session(env, new Output({ json: false, colour: false, write: () => {} }), NEVER)
  const sampled = await sampleAccounts(await session.db(), { count, shard: { index: 0, of: 1 } })
  expect(sampled.length).toBe(count)
}

const NEVER = new AbortController().signal

/** What of a table was read: rows from end to end, and index entries. */
interface Reads {
  whole: number
  byKey: number
}

const sumOf = (reads: ReadonlyMap<string, Reads>): { read: number; tables: string[] } => {
  const some = [...reads].filter(([, { whole, byKey }]) => whole + byKey > 0)
  return {
    read: some.reduce((sum, [, { whole, byKey }]) => sum + whole + byKey, 0),
    tables: some.map(([table, { whole, byKey }]) => `${table}: ${whole} rows, ${byKey} entries`),
  }
}

/** By table, what was read while `act` ran. Its sessions tell that when they end. */
async function readsOf({ db }: Scene, act: () => Promise<unknown>): Promise<Map<string, Reads>> {
  const before = await told(db)
  await act()
  const others = `select from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`
  await expect.poll(async () => (await db.query(others)).rowCount).toBe(0)
  const after = await told(db)
  return new Map(
    [...after].map(([table, { whole, byKey }]) => {
      const was = before.get(table)!
      return [table, { whole: whole - was.whole, byKey: byKey - was.byKey }]
    }),
  )
}

async function told(db: DatabasePool): Promise<Map<string, Reads>> {
  await tell(db)
  const { rows } = await db.query<{ table: string } & Reads>(`
    select relname as table, seq_tup_read as whole,
      (select coalesce(sum(idx_tup_read), 0)::bigint from pg_stat_user_indexes i where i.relid = t.relid) as "byKey"
    from pg_stat_user_tables t where schemaname = 'bsky'`)
  return new Map(rows.map(({ table, ...reads }) => [table, reads]))
}

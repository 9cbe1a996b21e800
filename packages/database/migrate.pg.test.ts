import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { Database } from '@atproto/bsky'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { APPVIEW_MIGRATIONS } from './appview/migrator-state.ts'
import { APPVIEW_TABLES } from './appview/schema.ts'
import { compareCatalogs, readCatalog } from './catalog.ts'
import type { Catalog } from './catalog.ts'
import { assertMigrated, migrate, pendingMigrations } from './migrate.ts'
import { MIGRATIONS } from './migrations/list.ts'
import { DatabasePool } from './pool.ts'
import { ADDITIONS, REMOVALS } from './testing/additions.ts'
import { SCHEMA, failure, run, withClient } from './testing/statements.ts'

const ALL = MIGRATIONS.map(({ name }) => name)

async function catalogOf(url: string, schema = SCHEMA): Promise<Catalog> {
  return await withClient(url, async (client) => {
    await client.query('begin')
    return await readCatalog(client, schema)
  })
}

/** The AppView's own code, as its process runs it at start. */
async function officialMigrate(url: string, upTo?: string): Promise<string[]> {
  const db = new Database({ url, schema: SCHEMA, poolSize: 1 })
  try {
    const results = upTo === undefined ? await db.migrateToLatestOrThrow() : await db.migrateToOrThrow(upTo)
    return results.map(({ migrationName }) => migrationName)
  } finally {
    await db.close()
  }
}

/**
 * What a made or an adopted schema has beyond the official one, by name; and that it lacks nothing but what we drop.
 */
function additions(official: Catalog, ours: Catalog): string[] {
  const { missing, different, extra } = compareCatalogs(official, ours)
  expect({ missing: named(missing), different }).toEqual({ missing: REMOVALS, different: [] })
  return named(extra)
}

function named(facts: readonly string[]): string[] {
  return facts.map((fact) => fact.slice(0, fact.indexOf(':'))).sort()
}

test('the schema we make is that of the AppView and our written additions, no more and no less', async ({
  emptyDatabase,
}) => {
  await migrate(emptyDatabase, SCHEMA)
  const ours = await catalogOf(emptyDatabase)
  await run(emptyDatabase, `drop schema ${SCHEMA} cascade`)
  await officialMigrate(emptyDatabase)
  const official = await catalogOf(emptyDatabase)
  expect(official.size).toBeGreaterThan(500)
  expect(additions(official, ours)).toEqual(ADDITIONS)
})

test('rows that the AppView’s migrator puts in are there, and its extension is in public', async ({
  emptyDatabase,
}) => {
  const read = (): Promise<unknown> =>
    withClient(emptyDatabase, async (client) => [
      (await client.query(`select * from ${SCHEMA}.view_param order by name`)).rows,
      (await client.query(`select name from ${SCHEMA}.kysely_migration order by name`)).rows,
      (await client.query('select extname, extnamespace::regnamespace::text from pg_extension order by 1')).rows,
      (await client.query(`select ispopulated from pg_matviews where schemaname = '${SCHEMA}'`)).rows,
    ])
  await migrate(emptyDatabase, SCHEMA)
  const ours = await read()
  await run(emptyDatabase, `drop schema ${SCHEMA} cascade`, 'drop extension pg_trgm')
  await officialMigrate(emptyDatabase)
  expect(ours).toEqual(await read())
})

test('an AppView that starts on our schema finds nothing to do and changes nothing', async ({ database }) => {
  const before = await catalogOf(database)
  expect(await officialMigrate(database)).toEqual([])
  const { missing, different, extra } = compareCatalogs(before, await catalogOf(database))
  expect({ missing, different, extra }).toEqual({ missing: [], different: [], extra: [] })
})

test('a schema of the AppView is adopted with its rows: only our additions are applied', async ({ emptyDatabase }) => {
  await officialMigrate(emptyDatabase)
  const official = await catalogOf(emptyDatabase)
  await run(
    emptyDatabase,
    `insert into record (uri, cid, did, json, "indexedAt") values ('at://a/b/c', 'cid', 'a', '{}', '2026')`,
    `insert into notification (did, "recordUri", "recordCid", author, reason, "sortAt") values ('a', 'b', 'c', 'd', 'like', '2026')`,
  )
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  expect(additions(official, await catalogOf(emptyDatabase))).toEqual(ADDITIONS)
  const { rows } = await withClient(emptyDatabase, (client) => client.query(`select * from ${SCHEMA}.record`))
  expect(rows).toMatchObject([{ uri: 'at://a/b/c', json: '{}', rev: null }])
  expect(await officialMigrate(emptyDatabase)).toEqual([])
})

test('adoption keeps what an operator has added or tuned', async ({ emptyDatabase }) => {
  await officialMigrate(emptyDatabase)
  await run(
    emptyDatabase,
    'create index mine on post (cid)',
    'alter table post set (fillfactor = 80)',
    'drop index feed_item_cursor_idx',
    'create table theirs (id int)',
    'alter table record add column rev varchar',
  )
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  const catalog = await catalogOf(emptyDatabase)
  expect(catalog.get('options post')).toContain('fillfactor=80')
  expect(catalog.has('index mine')).toBe(true)
  expect(catalog.has('column theirs.id')).toBe(true)
})

test('a schema a few migrations behind is refused untouched, and names the release that is needed', async ({
  emptyDatabase,
}) => {
  await officialMigrate(emptyDatabase, APPVIEW_MIGRATIONS.at(-4))
  const before = await catalogOf(emptyDatabase)
  const error = await failure(migrate(emptyDatabase, SCHEMA))
  expect(error).toBeInstanceOf(FatalError)
  expect(error.message).toContain('lacks 3 of its migrations')
  expect(error.message).toContain(APPVIEW_MIGRATIONS.at(-3))
  expect(error.message).toContain('@atproto/bsky 0.0.280')
  expect(compareCatalogs(before, await catalogOf(emptyDatabase))).toEqual({ missing: [], different: [], extra: [] })
  await officialMigrate(emptyDatabase)
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
})

const DAMAGE: [what: string, statement: string, named: string][] = [
  ['a column is missing', 'alter table post drop column "hasPostGate"', 'no column post.hasPostGate'],
  ['a column has another type', 'alter table actor_sync alter column "repoRev" type integer using 1', 'column actor_sync.repoRev: integer'],
  ['a unique constraint is missing', 'alter table "like" drop constraint like_unique_subject', 'no constraint like.like_unique_subject'],
  ['a table is missing', 'drop table quote', 'no relation quote: table'],
] // prettier-ignore
for (const [what, statement, named] of DAMAGE) {
  test(`a schema in which ${what} is refused untouched, whatever its migrator recorded`, async ({ emptyDatabase }) => {
    await officialMigrate(emptyDatabase)
    await run(emptyDatabase, statement)
    const before = await catalogOf(emptyDatabase)
    const error = await failure(migrate(emptyDatabase, SCHEMA))
    expect(error).toBeInstanceOf(FatalError)
    expect(error.message).toContain(named)
    expect(compareCatalogs(before, await catalogOf(emptyDatabase))).toEqual({ missing: [], different: [], extra: [] })
  })
}

test('a copy of the AppView’s tables without its migrator’s marks is recognised by content, and marked', async ({
  emptyDatabase,
}) => {
  await officialMigrate(emptyDatabase)
  await run(emptyDatabase, 'drop table kysely_migration, kysely_migration_lock')
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  expect(await officialMigrate(emptyDatabase)).toEqual([])
})

test('a newer AppView that only added is adopted; one that changed our tables is refused by name', async ({
  emptyDatabase,
}) => {
  await officialMigrate(emptyDatabase)
  await run(
    emptyDatabase,
    `insert into kysely_migration values ('_20270101T000000000Z', '2027-01-01T00:00:00.000Z')`,
    'alter table post add column novel boolean',
  )
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  await run(emptyDatabase, 'drop table sluice_migration, tombstone', 'alter table post drop column tags')
  const error = await failure(migrate(emptyDatabase, SCHEMA))
  expect(error.message).toContain('_20270101T000000000Z')
  expect(error.message).toContain('no column post.tags')
})

test('notification ids that are integers become bigints, with their rows and their sequence', async ({
  emptyDatabase,
}) => {
  await officialMigrate(emptyDatabase)
  const insert = `insert into notification (did, "recordUri", "recordCid", author, reason, "sortAt") values ('a', 'b', 'c', 'd', 'like', '2026') returning id::text`
  await run(
    emptyDatabase,
    'alter table notification alter column id type integer',
    'alter sequence notification_id_seq as integer',
    insert,
    `select setval('notification_id_seq', 2147483647)`,
  )
  await migrate(emptyDatabase, SCHEMA)
  const { rows } = await withClient(emptyDatabase, async (client) => {
    await client.query(`set search_path to ${SCHEMA}`)
    return await client.query<{ id: string }>(insert)
  })
  expect(rows).toEqual([{ id: '2147483648' }])
})

test('migrating again is a no-op', async ({ emptyDatabase }) => {
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  const before = await catalogOf(emptyDatabase)
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: [] })
  expect(compareCatalogs(before, await catalogOf(emptyDatabase))).toEqual({ missing: [], different: [], extra: [] })
})

test('daemons that migrate at once agree on one that does the work', async ({ emptyDatabase }) => {
  const reports = await Promise.all([1, 2, 3, 4].map(() => migrate(emptyDatabase, SCHEMA)))
  expect(reports.map(({ applied }) => applied.length).sort((a, b) => a - b)).toEqual([0, 0, 0, ALL.length])
})

test('migrating at the very moment at which an AppView starts on the same empty database is right for both', async ({
  emptyDatabase,
}) => {
  for (let round = 0; round < 8; round++) {
    await run(emptyDatabase, `drop schema if exists ${SCHEMA} cascade`)
    const [report, appview] = await Promise.allSettled([migrate(emptyDatabase, SCHEMA), officialMigrate(emptyDatabase)])
    expect(report).toEqual({ status: 'fulfilled', value: { applied: ALL } })
    // Its CREATE SCHEMA IF NOT EXISTS can lose the race, and then it must be started again, as its supervisor does.
    if (appview.status === 'rejected') expect(appview.reason).toMatchObject({ code: '23505' })
    else expect([0, APPVIEW_MIGRATIONS.length]).toContain(appview.value.length)
    expect(await officialMigrate(emptyDatabase)).toEqual([])
  }
})

test('two schemas of one database are migrated independently', async ({ emptyDatabase }) => {
  await Promise.all([migrate(emptyDatabase, 'one'), migrate(emptyDatabase, 'Two')])
  const [one, two] = [await catalogOf(emptyDatabase, 'one'), await catalogOf(emptyDatabase, 'Two')]
  expect(one.size).toBeGreaterThan(500)
  expect(compareCatalogs(one, two)).toEqual({ missing: [], different: [], extra: [] })
})

test('a table that somebody holds makes it a transient failure, of that migration and those after it', async ({
  emptyDatabase,
}) => {
  await officialMigrate(emptyDatabase)
  const error = await withClient(emptyDatabase, async (holder) => {
    await holder.query(`begin; lock table ${SCHEMA}.profile_agg in share mode`)
    return await failure(migrate(emptyDatabase, SCHEMA))
  })
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toContain('55P03')
  const half = await catalogOf(emptyDatabase)
  expect({ rev: half.has('column record.rev'), tombstone: half.has('relation tombstone') }).toEqual({
    rev: false,
    tombstone: false,
  })
  await using db = new DatabasePool({ url: emptyDatabase, schema: SCHEMA, size: 1, role: 'test' })
  expect(await pendingMigrations(db)).toEqual(ALL.slice(1))
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL.slice(1) })
})

test.for([
  ['an index', [], 'post in row exclusive mode', 'post_reply_root_idx', ['record', 'actor_sync', 'notification', 'post']],
  ['a rewrite', ['alter table notification alter column id type integer'], 'notification in access share mode', 'alter column id', ['record', 'actor_sync']],
] as const)('while a migration waits to begin %s, the AppView reads', async ([, before, lock, statement, tables], { emptyDatabase }) => {
  await officialMigrate(emptyDatabase)
  await run(emptyDatabase, ...before)
  const report = await withClient(emptyDatabase, async (holder) => {
    await holder.query(`begin; lock table ${SCHEMA}.${lock}`)
    const migrating = migrate(emptyDatabase, SCHEMA)
    migrating.catch(() => {})
    await withClient(emptyDatabase, async (appview) => {
      const waiting = async (): Promise<string[]> => (await appview.query<{ query: string }>(WAITING)).rows.map(({ query }) => query)
      await expect.poll(waiting).toEqual([expect.stringContaining(statement)])
      for (const table of tables) await appview.query(`begin; lock table ${SCHEMA}.${table} in access share mode nowait; commit`)
    })
    await holder.query('commit')
    return await migrating
  })
  expect(report).toEqual({ applied: ALL })
}) // prettier-ignore

const WAITING = `
  select query from pg_stat_activity
  where application_name = 'sluice-migrate' and datname = current_database() and wait_event_type = 'Lock'`

test('a daemon on a schema that is not migrated stops with the command that mends it', async ({
  emptyDatabase,
  database,
}) => {
  await using fresh = new DatabasePool({ url: emptyDatabase, schema: SCHEMA, size: 1, role: 'test' })
  expect(await pendingMigrations(fresh)).toEqual(ALL)
  const error = await failure(assertMigrated(fresh))
  expect(error).toBeInstanceOf(FatalError)
  expect(error.message).toContain('sluice migrate')
  await using ready = new DatabasePool({ url: database, schema: SCHEMA, size: 1, role: 'test' })
  expect(await pendingMigrations(ready)).toEqual([])
  await assertMigrated(ready)
})

test('a role that may not create is told which privilege it lacks', async ({ emptyDatabase }) => {
  const role = `poor_${process.pid}`
  await run(emptyDatabase, `create role ${role} login password 'pw'`)
  const url = new URL(emptyDatabase)
  url.username = role
  url.password = 'pw'
  const error = await failure(migrate(url.href, SCHEMA))
  await run(emptyDatabase, `drop role ${role}`)
  expect(error).toBeInstanceOf(FatalError)
  expect(error.message).toContain('42501')
})

test('a server that accepts and says nothing is given up, to be tried again', async () => {
  const accepted: Socket[] = []
  const server = createServer((socket) => void accepted.push(socket)).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  try {
    const error = await failure(migrate(`postgres://someone@127.0.0.1:${port}/any`, SCHEMA))
    expect(error).toBeInstanceOf(TransientError)
    expect(accepted.length).toBe(1)
  } finally {
    for (const socket of accepted) socket.destroy()
    server.close()
  }
})

test('every table of the script is one of the schema', async ({ database }) => {
  const catalog = await catalogOf(database)
  expect(APPVIEW_TABLES.length).toBeGreaterThan(50)
  expect(APPVIEW_TABLES.filter((table) => !catalog.has(`relation ${table}`))).toEqual([])
})

/**
 * `test` with real stores, one for each test: `import { test } from '@sluice/sandbox/fixtures.ts'`.
 *
 * | fixture         | in files                   | what                                                            |
 * |-----------------|----------------------------|-----------------------------------------------------------------|
 * | `database`      | `.pg.test.ts`, `.e2e.…`    | connection string of an own database with our migrated schema   |
 * | `otherDatabase` | likewise                   | a second one, to compare with                                   |
 * | `emptyDatabase` | `.pg.test.ts`, `.e2e.…`    | connection string of an own database with nothing in it         |
 * | `redisUrl`      | `.redis.test.ts`, `.e2e.…` | connection string of an own, empty logical database             |
 *
 * A test fails, whatever it asserted, if it ends with an open connection to its database or with a running process that
 * it started. The servers are shared by the run: a test that crashes, fills or reconfigures one starts its own
 * (`startPostgres`, `startRedis`).
 */
import { createClient } from 'redis'
import { inject, test as base } from 'vitest'
import { noProcessLeft, stillLeft } from './leftovers.ts'
import { createDatabaseStatement, queryOnce } from './postgres.ts'
import { TEMPLATE } from './template.ts'

export { expect } from 'vitest'

export const test = base
  .extend('database', async ({}, { onCleanup }) => ownDatabase(TEMPLATE, onCleanup))
  .extend('otherDatabase', async ({}, { onCleanup }) => ownDatabase(TEMPLATE, onCleanup))
  .extend('emptyDatabase', async ({}, { onCleanup }) => ownDatabase('template1', onCleanup))
  .extend('redisUrl', async ({}, { onCleanup }) => ownRedisDatabase(onCleanup))
  .extend('noProcessLeft', { auto: true }, async ({}, { onCleanup }) => {
    onCleanup(noProcessLeft('the test'))
  })

type OnCleanup = (cleanup: () => Promise<void>) => void

let databases = 0

async function ownDatabase(template: string, onCleanup: OnCleanup): Promise<string> {
  const admin = inject('postgresUrl')
  const name = `test_${process.pid}_${++databases}`
  await queryOnce(admin, createDatabaseStatement(name, template, { fast: true, major: inject('postgresMajor') }))
  onCleanup(async () => {
    const left = await stillLeft(() => openConnections(admin, name))
    await queryOnce(admin, `DROP DATABASE ${name} WITH (FORCE)`)
    if (left.length > 0) throw new Error(`the test left connections to PostgreSQL open:\n${left.join('\n')}`)
  })
  return admin.replace(/\/postgres$/, `/${name}`)
}

async function openConnections(admin: string, database: string): Promise<string[]> {
  const rows = await queryOnce<{ line: string }>(
    admin,
    `SELECT format('%s %s: %s', coalesce(nullif(application_name, ''), '(no application_name)'), state, query) AS line
     FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'client backend'`,
    [database],
  )
  return rows.map(({ line }) => line)
}

/**
 * The logical databases for tests. A counter in database 0 assigns them in turn, so that tests of all workers use
 * different ones.
 */
const LOGICAL_DATABASES = 255

async function ownRedisDatabase(onCleanup: OnCleanup): Promise<string> {
  const root = inject('redisUrl')
  const number = await withRedis(
    root,
    async (client) => 1 + ((await client.incr('sandbox:databases')) % LOGICAL_DATABASES),
  )
  const url = root.replace(/\/0$/, `/${number}`)
  await withRedis(url, (client) => client.flushDb())
  onCleanup(async () => {
    const left = await stillLeft(() => withRedis(root, (client) => redisConnections(client, number)))
    await withRedis(url, (client) => client.flushDb())
    if (left.length > 0) throw new Error(`the test left connections to Redis open:\n${left.join('\n')}`)
  })
  return url
}

type RedisClient = ReturnType<typeof createClient>

async function withRedis<T>(url: string, act: (client: RedisClient) => Promise<T>): Promise<T> {
  const client = createClient({ url })
  await client.connect()
  try {
    return await act(client as RedisClient)
  } finally {
    client.destroy()
  }
}

async function redisConnections(client: RedisClient, database: number): Promise<string[]> {
  const lines = (await client.sendCommand<string>(['CLIENT', 'LIST'])).split('\n')
  return lines.filter((line) => line.includes(` db=${database} `))
}

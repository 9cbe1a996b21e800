/** A pooler between us and PostgreSQL. PgBouncer itself was tried by hand (docs/operations.md). */
import { Client } from 'pg'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { migrate } from './migrate.ts'
import { DatabasePool } from './pool.ts'
import { assertOwnSession, backendPid } from './pooler.ts'
import { transactionPooler } from './testing/transaction-pooler.ts'
import { failure } from './testing/statements.ts'

const poolOf = (url: string, acquireMs?: number): DatabasePool =>
  new DatabasePool({ url, schema: 'bsky', size: 2, role: 'indexer', ...(acquireMs !== undefined && { acquireMs }) })

test('a pooler that lends a session for a transaction is refused by a pool and by a migration, however many it has', async ({
  emptyDatabase,
}) => {
  for (const sessions of [1, 2, 5]) {
    for (const order of ['last', 'first'] as const) {
      await using pooler = await transactionPooler(emptyDatabase, { sessions, order })
      await using pool = poolOf(pooler.url)
      for (const use of [async () => pool.query('select 1'), async () => migrate(pooler.url, 'bsky')]) {
        const error = await failure(use())
        expect(error).toBeInstanceOf(FatalError)
        expect(error.message).toMatch(/pooler.*pool_mode=transaction.*Next: let DB_POSTGRES_URL lead to.*session mode/)
      }
      expect(pooler.mixedUp).toBeGreaterThan(0)
    }
  }
  await using pool = poolOf(emptyDatabase)
  expect((await pool.query(`select from pg_namespace where nspname = 'bsky'`)).rowCount).toBe(0)
})

test('a pooler that lends a session for a transaction is refused though it does so only now and then', async ({
  emptyDatabase,
}) => {
  await using pooler = await transactionPooler(emptyDatabase, { sessions: 3, order: 'last', apartFor: 8 })
  await using pool = poolOf(pooler.url)
  expect(await failure(pool.query('select 1'))).toBeInstanceOf(FatalError)
  expect(pooler.mixedUp).toBeGreaterThan(0)
})

test('behind a pooler in session mode each connection has its session; they are compared once, and who compared is gone', async ({
  emptyDatabase,
}) => {
  const options = { sessions: 2, order: 'first', keeps: true, beyond: 'cut' } as const
  await using pooler = await transactionPooler(emptyDatabase, options)
  await using pool = poolOf(pooler.url)
  const clients = [await pool.acquire()]
  await expect.poll(() => pooler.connected).toBe(1)
  // There is no room for one more that compares.
  pooler.clientsMax = 2
  clients.push(await pool.acquire())
  const pids = await Promise.all(clients.map(backendPid))
  for (const client of clients) client.release()
  expect(new Set(pids).size).toBe(2)
  expect(pooler.turnedAway).toBe(0)
})

test.for([
  // In session mode: another client is greeted, and waits for its session.
  { name: 'has no other session to compare', options: { sessions: 1, order: 'first', keeps: true }, clientsMax: Infinity }, // prettier-ignore
  { name: 'does not answer a second client', options: { sessions: 1, order: 'first', beyond: 'silence' }, clientsMax: 1 }, // prettier-ignore
  { name: 'cuts a second client off', options: { sessions: 1, order: 'first', beyond: 'cut' }, clientsMax: 1 },
] as const)(
  'behind a pooler that $name the connection serves, and the comparison is made up for with the next one',
  async ({ options, clientsMax }, { emptyDatabase }) => {
    await using pooler = await transactionPooler(emptyDatabase, options)
    pooler.clientsMax = clientsMax
    await using pool = poolOf(pooler.url)
    const client = await pool.acquire()
    expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }])
    await expect.poll(() => pooler.connected).toBe(1)
    pooler.clientsMax = Infinity
    if (!('keeps' in options)) expect(await failure(pool.query('select 1'))).toBeInstanceOf(FatalError)
    if (clientsMax === 1) expect(pooler.turnedAway).toBe(1)
    client.release()
  },
)

test('a connection to PostgreSQL itself is known without a second one', async ({ emptyDatabase }) => {
  const client = new Client(emptyDatabase)
  await client.connect()
  try {
    expect(await assertOwnSession(client, await backendPid(client), 'postgres://127.0.0.1:1/nowhere')).toBe(true)
  } finally {
    await client.end()
  }
})

test('a pooler that accepts a connection and has no session to lend holds nobody up for longer than a connection may', async ({
  emptyDatabase,
}) => {
  await using pooler = await transactionPooler(emptyDatabase, { sessions: 0, order: 'last' })
  await using pool = poolOf(pooler.url, 2_000)
  const error = await failure(pool.query('select 1'))
  expect(error).toBeInstanceOf(TransientError)
  expect(error.message).toMatch(/no session of the server in 2000 ms.*default_pool_size/)
  expect(pool.gauges()).toEqual({ total: 0, idle: 0, waiting: 0 })
})

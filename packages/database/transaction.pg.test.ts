import { Client } from 'pg'
import { FatalError, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { reasonOf } from './testing/reason-of.ts'
import type { RetriedReason } from './errors.ts'
import { DatabasePool } from './pool.ts'
import { cuttingProxy } from './testing/cutting-proxy.ts'
import { transaction } from './transaction.ts'
import { failure } from './testing/statements.ts'

const test = base
  .extend('retried', (): RetriedReason[] => [])
  .extend('pool', async ({ emptyDatabase, retried }, { onCleanup }) => {
    const onRetry = (reason: RetriedReason): unknown => retried.push(reason)
    const pool = new DatabasePool({ url: emptyDatabase, schema: 'public', size: 3, role: 'test', onRetry })
    onCleanup(() => pool.close())
    await pool.query('create table item (id int primary key, n int not null)')
    return pool
  })
  .extend('proxy', async ({ emptyDatabase }, { onCleanup }) => {
    const proxy = await cuttingProxy(emptyDatabase)
    onCleanup(() => proxy[Symbol.asyncDispose]())
    return proxy
  })

const DOING = { doing: 'the test' }

async function items(pool: DatabasePool): Promise<Record<number, number>> {
  const { rows } = await pool.query<{ id: number; n: number }>('select id, n from item order by id')
  return Object.fromEntries(rows.map(({ id, n }) => [id, n]))
}

test('after COMMIT every statement and COPY of the work is there', async ({ pool }) => {
  const result = await transaction(pool, DOING, async (tx) => {
    await tx.query('insert into item values ($1, $2)', [1, 10])
    await tx.query({ name: 'put', text: 'insert into item values ($1, $2)', values: [2, 20] })
    await tx.query({ name: 'put', text: 'insert into item values ($1, $2)', values: [3, 30] })
    return await tx.copy({ table: 'item', columns: ['id', 'n'] }, [[4, 40]])
  })
  expect(result).toBe(1)
  expect(await items(pool)).toEqual({ 1: 10, 2: 20, 3: 30, 4: 40 })
})

test('an error of the work takes all of it back and comes out as it is; the connection goes on', async ({ pool }) => {
  const mine = new TypeError('mine')
  const error = await failure(
    transaction(pool, DOING, async (tx) => {
      await tx.query('insert into item values (1, 1)')
      throw mine
    }),
  )
  expect(error).toBe(mine)
  expect(await items(pool)).toEqual({})
  expect(pool.gauges()).toEqual({ total: 1, idle: 1, waiting: 0 })
})

test('a statement that fails is the cause, not the ones behind it in the aborted transaction', async ({ pool }) => {
  // The answers may come in one packet or in several.
  for (let round = 0; round < 50; round++) {
    const error = await failure(
      transaction(pool, DOING, async (tx) => {
        await Promise.all([
          tx.query('insert into item values (1, 1)'),
          tx.query('insert into item values (1, 2)'),
          tx.query('insert into item values (2, 2)'),
          tx.copy({ table: 'item', columns: ['id', 'n'] }, [[4, 40]]),
        ])
      }),
    )
    expect(error).toBeInstanceOf(RefusedError)
    expect(error.message).toContain('(23505, item_pkey)')
  }
  expect(await items(pool)).toEqual({})
})

test('a failed statement that nobody awaits fails the transaction, and the process goes on', async ({ pool }) => {
  const error = await failure(
    transaction(pool, DOING, async (tx) => {
      void tx.query('insert into item values (1, null)')
      void tx.query('insert into item values (2, 2)')
    }),
  )
  expect(error).toBeInstanceOf(RefusedError)
  expect(await items(pool)).toEqual({})
})

test('a failed statement whose error is swallowed still fails the transaction', async ({ pool }) => {
  const error = await failure(
    transaction(pool, DOING, async (tx) => {
      await tx.query('insert into nowhere values (1)').catch(() => {})
    }),
  )
  expect(error).toBeInstanceOf(FatalError)
  expect(error.message).toContain('sluice migrate')
})

test('a value that cannot be sent fails the transaction, though PostgreSQL never sees it', async ({ pool }) => {
  const circular: Record<string, unknown> = {}
  circular.self = circular
  const error = await failure(
    transaction(pool, DOING, async (tx) => {
      void tx.query('insert into item values (1, 1)')
      void tx.query('insert into item values (2, $1::jsonb::text::int)', [circular])
    }),
  )
  expect(error).toBeInstanceOf(TypeError)
  expect(await items(pool)).toEqual({})
})

test('statements go out in the order they are called, also behind a COPY that takes its time', async ({ pool }) => {
  const rows = Array.from({ length: 200_000 }, (_, id) => [id, id] as const)
  const seen = await transaction(pool, DOING, async (tx) => {
    const before = tx.query<{ n: number }>('select count(*)::int as n from item')
    const first = tx.copy({ table: 'item', columns: ['id', 'n'] }, rows.slice(0, 100_000))
    const between = tx.query<{ n: number }>('select count(*)::int as n from item')
    const second = tx.copy({ table: 'item', columns: ['id', 'n'] }, rows.slice(100_000))
    const after = tx.query<{ n: number }>('select count(*)::int as n from item')
    await Promise.all([first, second])
    return (await Promise.all([before, between, after])).map((result) => result.rows[0]!.n)
  })
  expect(seen).toEqual([0, 100_000, 200_000])
})

test('the sides of a deadlock are both applied in the end', async ({ pool, retried }) => {
  await pool.query('insert into item values (1, 0), (2, 0)')
  let arrived = 0
  const { promise: bothHoldOne, resolve } = Promise.withResolvers<void>()
  const addTo = (first: number, second: number): Promise<void> =>
    transaction(pool, DOING, async (tx) => {
      await tx.query('update item set n = n + 1 where id = $1', [first])
      if (++arrived === 2) resolve()
      await bothHoldOne
      await tx.query('update item set n = n + 1 where id = $1', [second])
    })
  await Promise.all([addTo(1, 2), addTo(2, 1)])
  expect(retried).toEqual(['deadlock'])
  expect(await items(pool)).toEqual({ 1: 2, 2: 2 })
})

test('a session that takes no writes is not lent again: a server that was promoted is found by a new one', async ({
  pool,
}) => {
  // As a session of a primary that has become a standby since.
  await pool.query('set default_transaction_read_only to on')
  const insert = () => transaction(pool, DOING, (tx) => tx.query('insert into item values (1, 1)'))
  expect(reasonOf(await failure(insert()))).toBe('read-only')
  await insert()
  expect(await items(pool)).toEqual({ 1: 1 })
})

test('what is called behind a COPY that could not be sent fails with it, and does not wait for its last row', async ({
  pool,
}) => {
  const error = await failure(
    transaction(pool, DOING, async (tx) => {
      await failure(tx.query('select pg_terminate_backend(pg_backend_pid())'))
      // Until the client knows that its connection is gone it would still write to the socket.
      while (!/not queryable/.test((await failure(tx.query('select 1'))).message));
      const copied = tx.copy({ table: 'item', columns: ['id', 'n'] }, [[1, 1]])
      const behind = tx.query('insert into item values (2, 2)')
      await Promise.all([failure(copied), failure(behind)])
    }),
  )
  expect(error).toBeInstanceOf(TransientError)
  expect(await items(pool)).toEqual({})
})

test('what fails at every try ends as a transient error, after the tries it was given', async ({ pool }) => {
  let tries = 0
  const error = await failure(
    transaction(pool, { ...DOING, attempts: 3 }, async (tx) => {
      tries++
      await tx.query(`do $$ begin raise exception using errcode = '40001'; end $$`)
    }),
  )
  expect(tries).toBe(3)
  expect(error).toBeInstanceOf(TransientError)
  expect(reasonOf(error)).toBe('serialization')
})

test('a prepared statement survives a change of its table', async ({ pool, retried }) => {
  await pool.query('insert into item values (1, 1)')
  const read = { name: 'read', text: 'select * from item' }
  await transaction(pool, DOING, (tx) => tx.query(read))
  await pool.query('alter table item add column more int')
  const { rows } = await transaction(pool, DOING, (tx) => tx.query(read))
  expect(retried).toEqual(['stale-plan'])
  expect(rows).toEqual([{ id: 1, n: 1, more: null }])
})

for (const [when, outcome] of [
  ['before', {}],
  ['after', { 1: 1 }],
] as const) {
  test(`a connection cut ${when} the server has COMMIT is transient, and applying it again is right`, async ({
    pool,
    proxy,
  }) => {
    await using remote = new DatabasePool({ url: proxy.url, schema: 'public', size: 2, role: 'test' })
    const apply = (): Promise<void> =>
      transaction(remote, DOING, async (tx) => {
        await tx.query('insert into item values (1, 1) on conflict do nothing')
      })
    proxy.cutAt('commit\0', when, 1) // not "read committed"
    const error = await failure(apply())
    expect(proxy.cuts).toBe(1)
    expect(error).toBeInstanceOf(TransientError)
    expect(error.message).toContain('COMMIT')
    await expect.poll(() => items(pool)).toEqual(outcome)
    await apply()
    expect(await items(pool)).toEqual({ 1: 1 })
    expect(proxy.cuts).toBe(1)
  })
}

test('a connection cut amid the work is transient, and no lost connection stays in the pool', async ({
  pool,
  proxy,
}) => {
  await using remote = new DatabasePool({ url: proxy.url, schema: 'public', size: 2, role: 'test' })
  for (const statement of ['begin', 'insert into item', 'copy']) {
    proxy.cutAt(statement, 'after', 1)
    const error = await failure(
      transaction(remote, DOING, async (tx) => {
        void tx.query('insert into item values (1, 1)')
        await tx.copy({ table: 'item', columns: ['id', 'n'] }, [[2, 2]])
      }),
    )
    expect(error).toBeInstanceOf(TransientError)
    expect(remote.gauges()).toEqual({ total: 0, idle: 0, waiting: 0 })
  }
  expect(proxy.cuts).toBe(3)
  expect(await items(pool)).toEqual({})
})

test('work that the server terminates while it waits is transient', async ({ pool, emptyDatabase }) => {
  const admin = new Client(emptyDatabase)
  await admin.connect()
  const work = failure(transaction(pool, DOING, (tx) => tx.query('select pg_sleep(60)')))
  const cut = `select pg_terminate_backend(pid) from pg_stat_activity where query = 'select pg_sleep(60)' and datname = current_database()`
  await expect.poll(async () => (await admin.query(cut)).rowCount).toBe(1)
  await admin.end()
  const error = await work
  expect(error).toBeInstanceOf(TransientError)
  expect(reasonOf(error)).toBe('starting')
})

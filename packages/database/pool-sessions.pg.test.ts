/** What each connection of a pool is: how it plans, what it is called, and how it notices that the server is gone. */
import { readFile } from 'node:fs/promises'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { DatabasePool } from './pool.ts'
import type { PoolOptions } from './pool.ts'

function poolOf(url: string, options: Partial<PoolOptions> = {}): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 1, role: 'indexer', consumer: 'one', ...options })
}

/** How a join of two large tables is planned, and a sort by more than an index has. */
async function plansOf(url: string, byKey: boolean): Promise<{ join: string; sort: string }> {
  await using pool = poolOf(url, { byKey })
  return await pool.session(async (session) => {
    await session.query('create temp table numbers as select i / 10 as tens, i from generate_series(1, 10000) i')
    await session.query('create index on numbers (tens)')
    await session.query('analyze numbers')
    const plan = async (text: string): Promise<string> => {
      const { rows } = await session.query<{ 'QUERY PLAN': string }>(`explain ${text}`)
      return rows.map((row) => row['QUERY PLAN']).join('\n')
    }
    return {
      join: await plan('select from numbers one join numbers other on one.i = other.i'),
      sort: await plan('select tens from numbers order by tens, i limit 5'),
    }
  })
}

test('a pool that finds by key hashes and merges no table, and sorts by no part of an order', async ({
  emptyDatabase,
}) => {
  const usual = await plansOf(emptyDatabase, false)
  expect([usual.join, usual.sort]).toEqual([
    expect.stringContaining('Hash Join'),
    expect.stringContaining('Incremental Sort'),
  ])
  const byKey = await plansOf(emptyDatabase, true)
  expect(byKey.join).toContain('Nested Loop')
  expect(byKey.sort).not.toContain('Incremental Sort')
})

test('a pool is called as its connections are, however long the name of its consumer', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase, { consumer: 'x'.repeat(100) })
  const { rows } = await pool.query(`select current_setting('application_name') as name`)
  expect(rows).toEqual([{ name: pool.name }])
})

test('a connection asks every few seconds whether the server is still there', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  const client = await pool.acquire()
  const { localPort } = client.connection.stream as unknown as { localPort: number }
  const port = localPort.toString(16).toUpperCase().padStart(4, '0')
  /** The timer of the connection's socket in the kernel, and after how many seconds it is due. */
  const timer = async (): Promise<{ kind?: string | undefined; isSoon: boolean }> => {
    const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((line) => line.trim().split(/\s+/))
    const [kind, ticks] = lines.find(([, local]) => local?.endsWith(`:${port}`))?.[5]?.split(':') ?? []
    return { kind, isSoon: Number.parseInt(ticks ?? '', 16) / 100 <= 10 }
  }
  // 02: for an answer to whether the other end is alive. The kernel counts in hundredths of a second.
  await expect.poll(timer).toEqual({ kind: '02', isSoon: true })
  client.release()
})

test('each new connection is told before it is lent, and no other loan is: it may lead to another server', async ({
  emptyDatabase,
}) => {
  let told = 0
  await using pool = poolOf(emptyDatabase, { onSession: () => void told++ })
  /** How many were told of when a connection was lent. */
  const lent = async (isLast: boolean): Promise<number> => {
    const client = await pool.acquire()
    const before = told
    client.release(isLast)
    return before
  }
  expect([await lent(false), await lent(true)]).toEqual([1, 1])
  expect(pool.gauges().total).toBe(0)
  expect(await lent(false)).toBe(2)
})

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Client } from 'pg'
import { expect, test } from './fixtures.ts'
import { startPostgres } from './postgres.ts'

test('text sorts in byte order and the clock is UTC', async () => {
  await using server = await startPostgres({ fast: true })
  const rows = await server.query(
    `SELECT string_agg(t, ' ' ORDER BY t) AS sorted, current_setting('TimeZone') AS zone, upper('é') AS upper
     FROM unnest(ARRAY['a', 'B', 'é', 'Z', '_']) AS t`,
  )
  expect(rows).toEqual([{ sorted: 'B Z _ a é', zone: 'UTC', upper: 'É' }])
})

test('what was committed survives a SIGKILL, what was not is gone', async () => {
  await using server = await startPostgres()
  await server.query('CREATE TABLE survivor (id int)')
  await server.query('INSERT INTO survivor VALUES (1)')
  const client = new Client({ connectionString: server.url() })
  client.on('error', () => {})
  await client.connect()
  await client.query('BEGIN')
  await client.query('INSERT INTO survivor VALUES (2)')
  const killed = server.pid
  await server.kill('SIGKILL')
  await expect(client.query('COMMIT')).rejects.toThrow()
  await server.start()
  expect(server.pid).not.toBe(killed)
  expect(server.log).toContain('automatic recovery in progress')
  expect(await server.query('SELECT id FROM survivor')).toEqual([{ id: 1 }])
})

test('a clean restart cuts connections and keeps port and data', async () => {
  await using server = await startPostgres({ fast: true })
  await server.createDatabase('kept')
  await server.query('CREATE TABLE kept (id int)', [], 'kept')
  const url = server.url('kept')
  expect(await server.restart()).toEqual({ code: 0, signal: null })
  expect(server.url('kept')).toBe(url)
  expect(await server.query('SELECT count(*)::int AS n FROM kept', [], 'kept')).toEqual([{ n: 0 }])
})

test('a named directory is kept and found again; two servers on it do not happen', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-kept-'))
  const first = await startPostgres({ dir })
  await first.query('CREATE TABLE kept (id int)')
  await first.stop()
  const second = await startPostgres({ dir })
  expect(await second.query('SELECT count(*)::int AS n FROM kept')).toEqual([{ n: 0 }])
  await expect(startPostgres({ dir, takeOverMs: 200 })).rejects.toThrow(`another PostgreSQL uses ${join(dir, 'data')}`)
  await second.stop()
  rmSync(dir, { recursive: true })
})

test('a start that fails shows why', async () => {
  const start = startPostgres({ settings: { shared_buffers: 'plenty' } })
  await expect(start).rejects.toThrow('invalid value for parameter "shared_buffers": "plenty"')
})

test('a temporary directory is removed by stop', async () => {
  const server = await startPostgres({ fast: true })
  const [row] = await server.query<{ data_directory: string }>('SHOW data_directory')
  expect(existsSync(join(row!.data_directory, '..'))).toBe(true)
  await server.stop()
  expect(existsSync(join(row!.data_directory, '..'))).toBe(false)
})

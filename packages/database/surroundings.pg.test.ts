/** Migrations with the rights, the limits, the encodings and the versions that an operator may have given. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { FatalError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { assertMigrated, migrate } from './migrate.ts'
import { MIGRATIONS } from './migrations/list.ts'
import { DatabasePool } from './pool.ts'
import { SCHEMA, failure, run, withClient } from './testing/statements.ts'

const ALL = MIGRATIONS.map(({ name }) => name)

test('a role that may only read and write is enough where nothing is pending', async ({ database }) => {
  const role = `role_${new URL(database).pathname.slice(1)}`
  await run(
    database,
    `create role ${role} login password 'pw'`,
    `grant usage on schema ${SCHEMA} to ${role}`,
    `grant select, insert, update, delete on all tables in schema ${SCHEMA} to ${role}`,
  )
  try {
    const url = Object.assign(new URL(database), { username: role, password: 'pw' }).href
    expect(await migrate(url, SCHEMA)).toEqual({ applied: [] })
    await run(database, `delete from sluice_migration where name = '${ALL.at(-1)}'`)
    const error = await failure(migrate(url, SCHEMA))
    expect(error).toBeInstanceOf(FatalError)
    expect(error.message).toMatch(/grant the privilege, or name the owner/)
  } finally {
    await run(database, `drop owned by ${role}`, `drop role ${role}`)
  }
})

test('limits that a role has for its transactions do not end a migration', async ({ emptyDatabase }) => {
  const name = new URL(emptyDatabase).pathname.slice(1)
  const [server] = await withClient(emptyDatabase, async (client) => {
    const { rows } = await client.query<{ number: number }>(
      `select current_setting('server_version_num')::int as number`,
    )
    return rows
  })
  const limits = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout']
  if (server!.number >= 170_000) limits.push('transaction_timeout')
  await withClient(emptyDatabase, async (client) => {
    for (const limit of limits) await client.query(`alter database ${name} set ${limit} to '1s'`)
  })
  await withClient(emptyDatabase, async (client) => {
    await expect(client.query('select pg_sleep(30)')).rejects.toThrow(/timeout/)
  })
  const slow = { name: 'slow', sql: 'select pg_sleep(1.5)' }
  const seen = `create table seen as select name, setting from pg_settings where name in ('${limits.join("', '")}')`
  const scripts = [slow, { name: 'seen', sql: seen }]
  expect((await migrate(emptyDatabase, SCHEMA, scripts)).applied).toEqual([...ALL, 'slow', 'seen'])
  const { rows } = await withClient(emptyDatabase, (client) =>
    client.query(`select * from ${SCHEMA}.seen order by name`),
  )
  // The wait for a table has a limit of ours.
  const expected = limits.toSorted().map((name) => ({ name, setting: name === 'lock_timeout' ? '5000' : '0' }))
  expect(rows).toEqual(expected)
})

test('a database whose encoding cannot hold every text is refused before anything is made', async ({
  emptyDatabase,
}) => {
  const name = `${new URL(emptyDatabase).pathname.slice(1)}_latin1`
  const create = `create database ${name} encoding 'LATIN1' locale 'C' template template0`
  await withClient(emptyDatabase, async (client) => client.query(create))
  try {
    const url = Object.assign(new URL(emptyDatabase), { pathname: `/${name}` }).href
    const error = await failure(migrate(url, SCHEMA))
    expect(error).toBeInstanceOf(FatalError)
    expect(error.message).toMatch(/has the encoding LATIN1.*createdb .*--encoding=UTF8/)
    await using pool = new DatabasePool({ url, schema: SCHEMA, size: 1, role: 'test' })
    await expect(assertMigrated(pool)).rejects.toThrow('LATIN1')
    expect((await pool.query(`select from pg_namespace where nspname = '${SCHEMA}'`)).rowCount).toBe(0)
  } finally {
    await withClient(emptyDatabase, async (client) => client.query(`drop database ${name}`))
  }
})

/** A proxy that makes the server look like PostgreSQL 13: it replaces the number of its version in what it answers. */
async function olderServer(target: string) {
  const [real] = await withClient(target, async (client) => {
    const { rows } = await client.query<{ number: string }>(`select current_setting('server_version_num') as number`)
    return rows
  })
  const sockets: Socket[] = []
  const { hostname, port } = new URL(target)
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    sockets.push(
      client.on('error', () => {}),
      upstream.on('error', () => {}),
    )
    client.pipe(upstream).on('close', () => client.destroy())
    client.on('close', () => upstream.destroy())
    upstream.on('data', (bytes) => {
      const at = bytes.indexOf(real!.number)
      if (at >= 0) bytes.write('130023', at)
      client.write(bytes)
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const own = { hostname: '127.0.0.1', port: String((server.address() as AddressInfo).port) }
  return {
    url: Object.assign(new URL(target), own).href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

test('a server that is too old is refused before anything is made, by who migrates and by who only looks', async ({
  emptyDatabase,
}) => {
  await using older = await olderServer(emptyDatabase)
  const error = await failure(migrate(older.url, SCHEMA))
  expect(error).toBeInstanceOf(FatalError)
  expect(error.message).toMatch(/is too old: Sluice needs 14/)
  expect(await migrate(emptyDatabase, SCHEMA)).toEqual({ applied: ALL })
  await using pool = new DatabasePool({ url: older.url, schema: SCHEMA, size: 1, role: 'test' })
  await expect(assertMigrated(pool)).rejects.toThrow(/is too old/)
})

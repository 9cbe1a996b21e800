/**
 * What doctor sees when PostgreSQL refuses it, is too old, hides sessions from it, or has one connection left: all that
 * can be seen still is.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce, startPostgres } from '@sluice/sandbox/postgres.ts'
import type { Finding } from './doctor/finding.ts'
import { inspectPostgres } from './postgres-state.ts'
import { olderPostgres } from './testing/older-postgres.ts'
import { runCli } from './testing/run.ts'

interface Doctor {
  findings: Finding[]
  notLookedAt: string[]
}

/** Redis is away on purpose: that is a finding, and must always be there. */
async function doctor(url: string): Promise<Doctor> {
  const said = await runCli(['doctor', '--json'], envOf(url))
  expect(said).toMatchObject({ code: 1, stderr: '' })
  return JSON.parse(said.stdout) as Doctor
}

const envOf = (url: string) => ({ DB_POSTGRES_URL: url, REDIS_URL: 'redis://127.0.0.1:1', METRICS_PORT: '0' })
const idsOf = ({ findings }: Doctor): string[] => findings.map(({ id }) => id)

function as(url: string, change: { username?: string; password?: string; pathname?: string }): string {
  return Object.assign(new URL(url), change).href
}

test('a server that refuses us hides nothing else', async ({ database }) => {
  for (const [url, says] of [
    [as(database, { password: 'wrong-word' }), 'password authentication failed'],
    [as(database, { pathname: '/nowhere' }), 'does not exist'],
  ] as const) {
    const seen = await doctor(url)
    expect(idsOf(seen)).toEqual(['redis-away', 'postgres-away'])
    expect(seen.findings[1]).toMatchObject({ what: 'PostgreSQL refuses us', evidence: expect.stringContaining(says) as string }) // prettier-ignore
    expect(JSON.stringify(seen)).not.toContain('wrong-word')
    expect(await runCli(['status'], envOf(url))).toMatchObject({ code: 78, stdout: expect.stringContaining('Redis at 127.0.0.1:1 is away') as string }) // prettier-ignore
  }
})

test('a server that is too old is refused by name, whatever is asked of it', async ({ emptyDatabase }) => {
  await using older = await olderPostgres(emptyDatabase, '130023')
  const refusal = expect.stringMatching(/PostgreSQL .+ is too old: Sluice needs 14 or newer/) as string
  const commands = ['migrate', 'migrate --check', 'recount --check', 'bulk status', 'identity import package.json']
  for (const [i, command] of commands.entries()) {
    const said = await runCli(command.split(' '), envOf(older.url))
    expect({ command, ...said }).toEqual({ command, code: 78, stdout: '', stderr: refusal })
    expect(older.told).toBe(i + 1)
  }
  const { findings } = await doctor(older.url)
  expect(findings[1]).toMatchObject({ id: 'postgres-away', what: 'PostgreSQL refuses us', evidence: refusal })
})

test('with one connection left everything is looked at, with none that is told', async () => {
  await using server = await startPostgres({ fast: true, settings: { max_connections: '8', superuser_reserved_connections: '0' } }) // prettier-ignore
  const url = await server.createDatabase('appview')
  expect(await runCli(['migrate'], envOf(url))).toMatchObject({ code: 0 })
  await using held = new AsyncDisposableStack()
  const take = async (): Promise<void> => {
    const pool = held.use(new DatabasePool({ url, schema: 'bsky', size: 1, role: 'AppView' }))
    const client = await pool.acquire()
    held.defer(() => client.release(true))
  }
  for (let taken = 0; taken < 7; taken++) await take()
  await expect.poll(async () => idsOf(await doctor(url))).toEqual(['redis-away', 'postgres-connections'])
  // Of the last look the session may not have ended yet.
  await expect.poll(() => take().then(() => 'taken', String)).toBe('taken')
  await expect(queryOnce(url, 'select 1')).rejects.toThrow('too many clients')
  const full = await doctor(url)
  expect(idsOf(full)).toEqual(['redis-away', 'postgres-away'])
  expect(full.findings[1]!.evidence).toContain('too many clients')
})

test('connections of other roles count, and what is hidden of them is named', async ({ database }) => {
  const name = new URL(database).pathname.slice(1)
  const roles = [`${name}_sluice`, `${name}_appview`] as const
  const sql = (text: string) => queryOnce(database, text)
  for (const role of roles) await sql(`create role ${role} login password 'x'`)
  const [sluice, appview] = roles.map((username) => as(database, { username, password: 'x' }))
  try {
    await sql(`grant usage on schema bsky to ${roles[0]}; grant select on all tables in schema bsky to ${roles[0]}`)
    await using db = new DatabasePool({ url: sluice!, schema: 'bsky', size: 1, role: 'test' })
    await using others = new DatabasePool({ url: appview!, schema: 'bsky', size: 8, role: 'AppView' })
    await using lent = new AsyncDisposableStack()
    const clients = await Promise.all(Array.from({ length: 8 }, () => others.acquire()))
    for (const client of clients) lent.defer(() => client.release(true))
    await clients[0]!.query('begin; select 1')

    const seen = await inspectPostgres(db, { longSeconds: 0 })
    expect(seen.connections.used).toBeGreaterThan(8)
    expect(seen).toMatchObject({ seesAllSessions: false, longTransactions: [] })
    const grant = `grant pg_monitor to "${roles[0]}"`
    expect((await doctor(sluice!)).notLookedAt).toContainEqual(expect.stringContaining(grant))
    await sql(grant)
    const granted = await inspectPostgres(db, { longSeconds: 0 })
    expect(granted).toMatchObject({ seesAllSessions: true, longTransactions: [{ application: 'sluice-AppView' }] })
    expect((await doctor(sluice!)).notLookedAt.join()).not.toContain('grant')
  } finally {
    for (const role of roles) await sql(`drop owned by ${role}; drop role ${role}`)
  }
})

test('recount that fails says where to go on', async ({ database }) => {
  const uris = Array.from({ length: 3 }, (_, i) => `at://did:plc:a/app.bsky.feed.post/${i}`)
  for (const uri of uris)
    await queryOnce(database, 'insert into bsky.post_agg (uri, "likeCount") values ($1, 7)', [uri])
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 1, role: 'test' })
  const holder = await db.acquire()
  try {
    await holder.query(`begin; select from post_agg where uri = '${uris[2]}' for update`)
    const counted = runCli(['recount', '--after', uris[0]!, '--table', 'post_agg'], envOf(database))
    const waiting = `select pid from pg_stat_activity where datname = current_database() and application_name = 'sluice-cli' and wait_event_type = 'Lock'`
    await expect.poll(() => queryOnce(database, waiting)).toHaveLength(1)
    const end = `select pg_terminate_backend(pid) as done from (${waiting}) w`
    expect(await queryOnce(database, end)).toEqual([{ done: true }])
    expect(await counted).toMatchObject({
      code: 69,
      stdout: expect.stringContaining(`stopped; go on with: --table post_agg --after ${uris[0]}\n`) as string,
    })
  } finally {
    holder.release(true)
  }
})

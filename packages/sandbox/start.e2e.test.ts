import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Client } from 'pg'
import { createClient } from 'redis'
import { expect, test } from 'vitest'
import { sharedEnvironment } from './children.ts'
import { startNetwork } from './network.ts'
import { DATABASE, Stores } from './demo/stack.ts'
import type { Account } from './pds.ts'
import { dataDirectory, postgresHome, REACHABLE } from './postgres-home.ts'
import { SCHEMA } from './template.ts'

const PROGRAM = fileURLToPath(new URL('start.ts', import.meta.url))

async function post(account: Account, text: string): Promise<void> {
  await account.agent.post({ text, createdAt: new Date().toISOString() })
}

function start(dir: string, env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, [PROGRAM, '--dir', dir], { env: { ...sharedEnvironment(), ...env } })
}

/** Waits until it says so many posts in its line. */
async function posts(program: ChildProcess, number: number): Promise<void> {
  let said = ''
  for (const stream of [program.stdout!, program.stderr!]) stream.on('data', (chunk) => (said += String(chunk)))
  await expect.poll(() => said, { timeout: 60_000 }).toMatch(new RegExp(`\\bpost ${number}\\b`))
}

async function stop(program: ChildProcess): Promise<number | null> {
  const ended = once(program, 'close') as Promise<[number | null]>
  program.kill('SIGTERM')
  return (await ended)[0]
}

/** The process of a store, as the store itself says. */
async function pidOf(store: 'PostgreSQL' | 'Redis', dir: string, said: string): Promise<number> {
  if (store === 'PostgreSQL') {
    const data = join(dataDirectory(join(dir, 'postgres'), postgresHome().user), 'data')
    return Number((await readFile(join(data, 'postmaster.pid'), 'utf8')).split('\n', 1)[0])
  }
  const redis = createClient({ url: /redis:\/\/\S+/.exec(said)![0] })
  await redis.connect()
  try {
    return Number(/process_id:(\d+)/.exec(await redis.info('server'))![1])
  } finally {
    redis.destroy()
  }
}

/** Data that are kept where PostgreSQL's user can reach them; the binaries there are for the next run. */
function standIns(): string[] {
  return existsSync(REACHABLE) ? readdirSync(REACHABLE).filter((name) => !name.startsWith('postgresql-')) : []
}

test('npm start indexes the relay it is told, keeps its data, and goes on with them the next time', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'sluice-start-'))
  const before = standIns()
  await using network = await startNetwork()
  const account = await network.pds.createAccount('alice')
  const env = {
    RELAY_HOSTS: network.pds.url,
    LABELER_HOSTS: '',
    PLC_URL: network.plcUrl,
    ALLOW_PRIVATE_HOSTS: 'true',
  }
  try {
    await post(account, 'before')
    const first = start(dir, env)
    await posts(first, 1)
    await post(account, 'while it runs')
    await posts(first, 2)
    expect(await stop(first)).toBe(0)
    await post(account, 'while it is away')
    const second = start(dir, env)
    await posts(second, 3)
    expect(await stop(second)).toBe(0)
    await using stores = await Stores.start(dir)
    const client = new Client({ connectionString: stores.postgres.url(DATABASE) })
    await client.connect()
    const { rows } = await client.query<{ text: string }>(`select text from ${SCHEMA}.post order by uri`)
    await client.end()
    expect(rows.map(({ text }) => text)).toEqual(['before', 'while it runs', 'while it is away'])
  } finally {
    // As root the data of PostgreSQL are not in it: a temporary directory is its owner's.
    await rm(dataDirectory(join(dir, 'postgres'), postgresHome().user), { recursive: true, force: true })
    await rm(dir, { recursive: true, force: true })
  }
  expect(standIns()).toEqual(before)
})

test.for(['PostgreSQL', 'Redis'] as const)(
  'O2: when %s ends by itself, npm start says so, stops the rest and ends with 1; nothing waits for what nobody starts again',
  async (store) => {
    const dir = await mkdtemp(join(tmpdir(), 'sluice-start-'))
    // No relay answers there, and none has to.
    const program = start(dir, { RELAY_HOSTS: 'http://127.0.0.1:9', LABELER_HOSTS: '', ALLOW_PRIVATE_HOSTS: 'true' })
    const ended = once(program, 'close') as Promise<[number | null]>
    let said = ''
    for (const stream of [program.stdout!, program.stderr!]) stream.on('data', (chunk) => (said += String(chunk)))
    try {
      await expect.poll(() => said, { timeout: 120_000 }).toContain('rows: record 0')
      process.kill(await pidOf(store, dir, said), 'SIGKILL')
      const [code] = await ended
      expect({ code, said }).toMatchObject({ code: 1 })
      expect(said).toContain(`${store} ended by itself (signal SIGKILL); its last lines:\n`)
      expect(said).toContain(`The data are kept in ${dir}`)
      expect(said, 'no stack').not.toMatch(/\n {4}at /)
    } finally {
      if (program.kill('SIGTERM')) await ended
      await rm(dataDirectory(join(dir, 'postgres'), postgresHome().user), { recursive: true, force: true })
      await rm(dir, { recursive: true, force: true })
    }
  },
)

/** The program itself, as an operator starts it; and PostgreSQL away: one clear line, whatever the command. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { sharedEnvironment } from '@sluice/sandbox/children.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startPostgres } from '@sluice/sandbox/postgres.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { runCli } from './testing/run.ts'

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url))

test('with PostgreSQL away every command that needs it says so in one line, and exits 69', async ({ redisUrl }) => {
  const env = {
    REDIS_URL: redisUrl,
    DB_POSTGRES_URL: 'postgres://sluice:hidden-word@127.0.0.1:1/bsky',
    METRICS_PORT: '0',
  }
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  const onIndex = [
    'recount',
    'prune',
    'bulk begin',
    'bulk status',
    'bulk finish',
    'identity import package.json',
    'migrate',
    'migrate --check',
  ]
  for (const line of [`verify ${did}`, `explain ${did}`, ...onIndex]) {
    const said = await runCli(line.split(' '), env)
    expect(said, line).toEqual({ code: 69, stdout: '', stderr: expect.stringMatching(/^sluice: PostgreSQL at 127\.0\.0\.1:1\/bsky is away: .*ECONNREFUSED.*\n$/) as string }) // prettier-ignore
  }
  const status = await runCli(['status'], env)
  expect(status.code).toBe(69)
  expect(status.stdout).toContain('PostgreSQL at 127.0.0.1:1/bsky is away')
  const unset = await runCli(['recount'], { REDIS_URL: redisUrl })
  expect(unset).toMatchObject({ code: 78, stderr: expect.stringContaining('DB_POSTGRES_URL is not set') as string })
})

test('started as a program it has the exit codes that scripts rely on, and a reader that leaves is no error', ({
  redisUrl,
  database,
}) => {
  const env = { ...sharedEnvironment(), REDIS_URL: redisUrl, DB_POSTGRES_URL: database, METRICS_PORT: '0' }
  const run = (command: string) => spawnSync('sh', ['-c', command], { env, encoding: 'utf8' })
  const sluice = `${process.execPath} ${MAIN}`
  const good = run(`${sluice} migrate --check --json`)
  expect([good.status, good.stderr]).toEqual([0, ''])
  expect(JSON.parse(good.stdout)).toEqual({ schema: 'bsky', pending: [] })
  const cut = run(`${sluice} config | head -1`)
  expect([cut.stdout, cut.stderr]).toEqual(['ingester\n', ''])
})

test('a command that is stopped before it was done does not end with 0', async ({ database }) => {
  const env = { DB_POSTGRES_URL: database }
  const stopped = { code: 130, stderr: expect.stringContaining('stopped before it was done') as string }
  expect(await runCli(['bulk', 'begin'], env)).toMatchObject({ code: 0 })
  expect(await runCli(['bulk', 'finish'], env, AbortSignal.abort())).toMatchObject(stopped)
  expect(await runCli(['bulk', 'finish'], env)).toMatchObject({ code: 0 })
  expect(await runCli(['recount', '--check'], env, AbortSignal.abort())).toMatchObject(stopped)
})

test('status --watch shows it again and again, and ends at Ctrl-C with 0', async ({ redisUrl }) => {
  const stop = new AbortController()
  const said = runCli(['status', '--watch', '1'], { REDIS_URL: redisUrl, METRICS_PORT: '0' }, stop.signal)
  setTimeout(() => stop.abort(), 4_000)
  const { code, stdout } = await said
  expect(code).toBe(0)
  expect(stdout.split('\u001b[2J').length).toBeGreaterThan(1)
})

test('status --watch that is started in an outage shows the streams and the tables as soon as the servers are back', async () => {
  await using redis = await startRedis()
  await using postgres = await startPostgres({ fast: true })
  const env = { ...sharedEnvironment(), REDIS_URL: redis.url(), DB_POSTGRES_URL: postgres.url(), METRICS_PORT: '0' }
  await Promise.all([redis.kill(), postgres.kill()])
  const watch = spawn(process.execPath, [MAIN, 'status', '--watch', '1'], { env })
  let shown = ''
  for (const stream of [watch.stdout, watch.stderr]) stream.on('data', (text) => (shown += String(text)))
  try {
    await expect.poll(() => shown).toMatch(/Redis at .* is away[^]*PostgreSQL at .* is away/)
    await Promise.all([redis.start(), postgres.start()])
    await expect.poll(() => shown).toMatch(/stream +entries +memory +lag[^]* schema bsky /)
  } finally {
    const ended = once(watch, 'close')
    watch.kill('SIGINT')
    await ended
  }
  expect(watch.exitCode).toBe(0)
})

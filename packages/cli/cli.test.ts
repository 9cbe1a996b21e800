/** What holds without any server: usage, exit codes, masking. */
import { readFileSync } from 'node:fs'
import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { runCli } from './testing/run.ts'
import { bytes, duration, oneLine, Output } from './output.ts'

const AWAY = { REDIS_URL: 'redis://127.0.0.1:1', DB_POSTGRES_URL: 'postgres://sluice:hidden-word@127.0.0.1:1/bsky' }

test('a wrong command line says so, names the help, and exits 2', async () => {
  const { code, stderr, stdout } = await runCli(['migrat'], {})
  expect(code).toBe(2)
  expect(stdout).toBe('')
  expect(stderr).toContain("unknown command 'migrat'")
  expect(stderr).toContain('Did you mean migrate?')
})

test.each([
  'pending list -n abc',
  'pending list -n 0',
  'incidents list -n 1.5',
  'incidents list -n -1',
  'incidents clear --before x',
  'incidents clear --before 99999999999999999999-0',
  'dlq list -n abc',
  'dlq show abc',
  'dlq retry 5-0 abc',
  'status --tables abc',
  'status --watch abc',
  'status --watch 0',
  'explain did:plc:aaaaaaaaaaaaaaaaaaaaaaaa --scan abc',
  'explain did:plc:aaaaaaaaaaaaaaaaaaaaaaaa --scan -1',
  'doctor --lag abc',
  'doctor --lag Infinity',
  'prune --tombstones abc',
  'prune --notifications Infinity',
  'prune --batch 1.5',
  'bulk finish --jobs abc',
  'bulk finish --jobs 0',
  'identity import https://plc.directory/export --after yesterday',
])('%s is a wrong command line: it says what it wants, and nobody is asked', async (line) => {
  const { code, stdout, stderr } = await runCli(line.split(' '), AWAY)
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
  expect(stderr).toMatch(/^error: .*(number|id|time)/)
})

test.each(['pending list nothing', 'pending reclaim nothing', 'group reset nothing', 'dlq list --stream nothing'])(
  '%s: there is no such stream, whether or not Redis is there',
  async (line) => {
    const { code, stderr } = await runCli(line.split(' '), AWAY)
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('there is no stream nothing; there are firehose_live') as string }) // prettier-ignore
  },
)

test('an export that cannot be read is named', async () => {
  const { code, stderr } = await runCli(['identity', 'import', '/nonexistent'], AWAY)
  expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringMatching(/^sluice: cannot read \/nonexistent: .*ENOENT/) as string }) // prettier-ignore
})

test('backfill status tells that Redis is away as every command does', async () => {
  expect(await runCli(['backfill', 'status'], AWAY)).toMatchObject({ code: 69, stderr: expect.stringContaining('Redis at') as string }) // prettier-ignore
})

test('config --changed shows as little to programs as to people, and a role that does not exist is a wrong command line', async () => {
  const env = { ...AWAY, INDEXER_CONSUMER: 'one' }
  const { stdout } = await runCli(['config', 'indexer', '--changed', '--json'], env)
  const { roles } = JSON.parse(stdout) as { roles: { settings: { source: string }[] }[] }
  const sources = roles.flatMap(({ settings }) => settings.map(({ source }) => source))
  expect(sources.filter((source) => source !== 'not set').toSorted()).toEqual([
    'DB_POSTGRES_URL',
    'INDEXER_CONSUMER',
    'REDIS_URL',
  ])
  expect((await runCli(['config', 'nobody'], env)).code).toBe(2)
})

test('every command has a help with examples, and a line in docs/cli.md', async () => {
  const { stdout } = await runCli(['--help'], {})
  const names = [...stdout.matchAll(/^ {2}(\w+) .*(?:\n {20,}.*)*/gm)]
    .map(([, name]) => name!)
    .filter((n) => n !== 'help')
  expect(names).toContain('migrate')
  const page = readFileSync(new URL('../../docs/cli.md', import.meta.url), 'utf8')
  expect(names.filter((name) => !page.includes(`| \`${name} `) && !page.includes(`| \`${name}\``))).toEqual([])
  for (const name of names) {
    const help = await runCli([name, '--help'], {})
    expect(help.code, name).toBe(0)
    expect(help.stdout, name).toContain('Examples:')
  }
})

test('config shows what is in effect and where it came from, and never a secret', async () => {
  const env = { ...AWAY, INDEXER_CONSUMER: 'one', INDEXER_CONCURENCY: '3' }
  const { code, stdout } = await runCli(['config', 'indexer', '--changed'], env)
  expect(code).toBe(0)
  expect(stdout).toContain('postgres://sluice:***@127.0.0.1:1/bsky')
  expect(stdout).not.toContain('hidden-word')
  expect(stdout).toContain('did you mean INDEXER_CONCURRENCY?')
  expect((await runCli(['config', '--check'], env)).code).toBe(78)
  const json = JSON.parse((await runCli(['config', '--json'], env)).stdout) as { roles: { role: string }[] }
  expect(json.roles.map(({ role }) => role)).toEqual(['ingester', 'backfiller', 'indexer'])
})

test('config shows every wrong value of every role and every misspelt name at once; to fail is for --check', async () => {
  const env = { ...AWAY, INGESTER_BATCH_SIZE: 'many', DB_POOL_SIZE: 'few', INDEXER_CONCURENCY: '3' }
  const { code, stdout, stderr } = await runCli(['config'], env)
  expect([code, stderr]).toEqual([0, ''])
  for (const named of [
    'INGESTER_BATCH_SIZE is not an integer',
    '"many"',
    'DB_POOL_SIZE is not an integer',
    '"few"',
    'did you mean INDEXER_CONCURRENCY?',
  ]) {
    expect(stdout).toContain(named)
  }
  expect((await runCli(['config', '--check'], env)).code).toBe(78)
})

test('config --check of one role asks for what that role needs, as its container has it', async () => {
  const env = { ...AWAY, INDEXER_CONSUMER: 'one' }
  expect((await runCli(['config', 'indexer', '--check'], env)).code).toBe(0)
  expect((await runCli(['config', '--check'], env)).code).toBe(78)
})

test('an address of a daemon with a password in it is refused, since none is sent, and the password not shown', async () => {
  const { code, stdout, stderr } = await runCli(['status'], { ...AWAY, SLUICE_DAEMONS: 'http://a:hidden-word@host:4000' }) // prettier-ignore
  expect(code).toBe(78)
  expect(stderr).toContain('without a user or password')
  expect(stdout + stderr).not.toContain('hidden-word')
})

test('a variable that cannot be read is named, with an example', async () => {
  const { code, stderr } = await runCli(['migrate'], { ...AWAY, DB_POOL_SIZE: 'many' })
  expect(code).toBe(78)
  expect(stderr).toMatch(/^sluice: DB_POOL_SIZE is not an integer.*\n$/)
})

test('a table keeps its columns, numbers stand to the right, and colours do not count', () => {
  let text = ''
  const out = new Output({ json: false, colour: true, write: (part) => (text += part) })
  out.table(
    ['name', 'size'],
    [
      [out.paint('bad', 'a'), '1.0 MB'],
      ['long', '12 B'],
    ],
  )
  expect(stripVTControlCharacters(text)).toBe('  name    size\n  a     1.0 MB\n  long    12 B\n')
})

test('units are those that people read', () => {
  expect([0.25, 3, 300, 10_000, 400_000, undefined].map(duration)).toEqual([
    '250 ms',
    '3 s',
    '5.0 min',
    '2.8 h',
    '4.6 d',
    '-',
  ])
  expect([12, 2048, 5_000_000].map(bytes)).toEqual(['12 B', '2.0 kB', '4.8 MB'])
})

test('text of others cannot move the cursor or break a line', () => {
  expect(oneLine('a\u001b[2Jb\nc\u202ed')).toBe('ab c d')
})

/** What a person types beside the demo does what it says, whatever the environment holds. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Beside } from './beside.ts'
import type { Daemons, Stores } from './stack.ts'

const databaseUrl = 'postgres://u:p@127.0.0.1:1/x'
const stores = { redis: { url: () => 'redis://127.0.0.1:1' }, databaseUrl } as unknown as Stores
const daemons = { all: [{ port: 1 }] } as unknown as Daemons

/** What a shell makes of the line, with `echo $<name>` for the program. */
function echoed({ command }: Beside, name: string): string {
  const line = command.replace('npm run -s sluice --', `sh -c 'echo "$${name}"'`)
  return spawnSync('sh', ['-c', line], { encoding: 'utf8' }).stdout.trim()
}

test('only its owner reads the file, and it goes with the demo', () => {
  const beside = new Beside(stores, daemons, {})
  const file = /cat (\S+)\)/.exec(beside.command)![1]!
  expect(statSync(file).mode & 0o777).toBe(0o600)
  expect(readFileSync(file, 'utf8')).toContain(databaseUrl)
  beside[Symbol.dispose]()
  expect(() => statSync(file)).toThrow('ENOENT')
})

test('a directory for temporary files with a space in its name is no obstacle', () => {
  const odd = mkdtempSync('/tmp/sluice test ')
  const before = process.env.TMPDIR
  process.env.TMPDIR = odd
  try {
    using beside = new Beside(stores, daemons, {})
    expect(echoed(beside, 'DB_POSTGRES_URL')).toBe(databaseUrl)
  } finally {
    if (before === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = before
    rmSync(odd, { recursive: true })
  }
})

test.each([
  ['https://a.example, https://b.example', 'https://a.example,https://b.example'],
  ['$HOME', '$HOME'],
  ['two words', ''],
])('of %j the shell makes %j', (value, wanted) => {
  using beside = new Beside(stores, daemons, { RELAY_HOSTS: value })
  const before = process.env.RELAY_HOSTS
  delete process.env.RELAY_HOSTS
  expect(echoed(beside, 'RELAY_HOSTS')).toBe(wanted)
  if (before !== undefined) process.env.RELAY_HOSTS = before
})

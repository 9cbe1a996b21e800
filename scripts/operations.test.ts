import { spawnSync } from 'node:child_process'
import { existsSync, globSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { expect, test } from 'vitest'
import { readRoles, root } from './roles.ts'

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const texts = [
  'docs/operations.md',
  'docker-compose.yml',
  '.dockerignore',
  ...globSync('Dockerfile.*', { cwd: root }),
].concat(globSync('infra/**/*.{yml,yaml,conf}', { cwd: root }))

const { roles } = await readRoles()
const metrics = roles.flatMap((role) => role.metrics.map(({ name }) => name))

test.each(texts)('%s names variables and metrics that exist', (path) => {
  const text = read(path)
  const variables = [...text.matchAll(/\b(?:INGESTER|BACKFILLER|INDEXER|SLUICE|DB)_[A-Z_]+\b/g)].map(([name]) => name)
  // Set by the image build; and those that platforms inject, which we turn off.
  const known = [...VARIABLES, 'SLUICE_BUILD_ID', 'INDEXER_SERVICE_HOST']
  expect(variables.filter((name) => !known.includes(name))).toEqual([])
  const named = [...text.matchAll(/`(sluice_[a-z_]+)`/g)].map(([, name]) => name!)
  expect(named.filter((name) => !metrics.includes(name))).toEqual([])
})

test('docs/operations.md names files that exist, and commands that the command line has', () => {
  const text = read('docs/operations.md')
  const paths = [...text.matchAll(/`((?:infra|scripts|packages)\/[^` ]+)`/g)].map(([, path]) => path!)
  expect(paths.length).toBeGreaterThan(4)
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([])
  const commands = new Set([...text.matchAll(/(?<!-n )\bsluice ([a-z]+)\b(?= |`|$)/gm)].map(([, name]) => name!))
  const files = globSync('packages/cli/commands/*.ts', { cwd: root }).map((path) =>
    path.slice(dirname(path).length + 1, -3),
  )
  expect([...commands].filter((name) => !files.includes(name))).toEqual([])
})

test('a base backup asks for no WAL that may be gone by then, and one that was cut off does not replace the last', () => {
  const snippets = [...read('docs/operations.md').matchAll(/```\w*\n([^]*?)```|`([^`\n]+)`/g)]
  const backups = snippets
    .map(([, block, inline]) => block ?? inline!)
    .filter((text) => text.includes('pg_basebackup -'))
  expect(backups).not.toEqual([])
  const keepsWal = /^wal_keep_size = [1-9]/m.test(read('infra/postgres/postgresql.conf'))
  for (const backup of backups) {
    if (!keepsWal) expect(backup).not.toMatch(/-X ?fetch|--wal-method=fetch/)
    if (!/pg_basebackup.*\|/.test(backup)) continue
    expect(backup).toContain('set -o pipefail')
    expect(backup).toMatch(/ > (\S+)\.part && mv \1\.part \1$/m)
  }
})

test.each([
  ['nothing', undefined, []],
  ['a last line without its end', 'A=1', ['A=1']],
  ['whole lines', 'A=1\nB=2\n', ['A=1', 'B=2']],
  ['another build', 'SLUICE_BUILD_ID=v1\nA=1', ['A=1']],
  ['nothing but another build, without its end', 'SLUICE_BUILD_ID=v1', []],
])('an upgrade names the build in a .env with %s, and leaves the rest as it is', (_, before, kept) => {
  const line = /^touch \.env; .*$/m.exec(read('docs/operations.md'))![0]
  const folder = mkdtempSync(join(tmpdir(), 'sluice-env-'))
  try {
    if (before !== undefined) writeFileSync(join(folder, '.env'), before)
    const { status } = spawnSync('sh', ['-c', `git() { echo v2; }; ${line}`], { cwd: folder })
    expect(status).toBe(0)
    const after = readFileSync(join(folder, '.env'), 'utf8')
    expect(after).toBe([...kept, 'SLUICE_BUILD_ID=v2', ''].join('\n'))
  } finally {
    rmSync(folder, { recursive: true })
  }
})

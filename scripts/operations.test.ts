import { existsSync, globSync, readFileSync } from 'node:fs'
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

test('docs/operations.md links to files that exist, and speaks of commands that the command line has', () => {
  const text = read('docs/operations.md')
  const links = [...text.matchAll(/\]\(([^)#]+)[^)]*\)/g)].map(([, link]) => link!)
  // It is written by others, later than this was; the link is checked as soon as it is there.
  const late = '../DATAPLANE_DEBUG.md'
  expect(links.filter((link) => link !== late && !existsSync(join(root, 'docs', link)))).toEqual([])
  const paths = [...text.matchAll(/`((?:infra|scripts|packages)\/[^` ]+)`/g)].map(([, path]) => path!)
  expect(paths.length).toBeGreaterThan(4)
  expect(paths.filter((path) => !existsSync(join(root, path)))).toEqual([])
  const commands = new Set([...text.matchAll(/(?<!-n )\bsluice ([a-z]+)\b(?= |`|$)/gm)].map(([, name]) => name!))
  const files = globSync('packages/cli/commands/*.ts', { cwd: root }).map((path) =>
    path.slice(dirname(path).length + 1, -3),
  )
  expect([...commands].filter((name) => !files.includes(name))).toEqual([])
})

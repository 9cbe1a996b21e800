import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { houseViolations } from './house-rules.ts'

/** A house where every package declares what it imports; broken by `files`. */
function check(files: Record<string, string>): string[] {
  return houseViolations(new Map(Object.entries(house(files)))).map(({ path, line, rule }) => `${path}:${line} ${rule}`)
}

function house(files: Record<string, string>): Record<string, string> {
  const rooms = new Set(Object.keys(files).map((path) => path.split('/').slice(0, 2).join('/')))
  const manifests = [...rooms]
    .filter((room) => /^(packages|services)\//.test(room))
    .map((room) => {
      const imports = Object.entries(files).filter(([path]) => path.startsWith(room) && !path.endsWith('.json'))
      const declared = imports.flatMap(([, text]) =>
        [...text.matchAll(/@sluice\/\w+/g)].map(([name]) => [name, 'workspace:*']),
      )
      const manifest = {
        name: `@sluice/${room.split('/')[1]}`,
        devDependencies: {},
        dependencies: Object.fromEntries(declared),
      }
      return [`${room}/package.json`, JSON.stringify(manifest)]
    })
  return { 'package.json': '{}', ...Object.fromEntries(manifests), ...files }
}

const importing = (target: string): string => `import { x } from '@sluice/${target}/x.ts'\n`

test('an import that points down is fine', () => {
  expect(
    check({
      'services/indexer/main.ts': importing('indexing') + importing('database') + importing('collections'),
      'services/ingester/main.ts': importing('streams') + importing('atproto'),
      'packages/indexing/a.ts': importing('collections') + importing('streams'),
      'packages/streams/a.ts': importing('events') + importing('runtime'),
      'packages/sandbox/demo.ts': importing('indexing') + importing('streams'),
      'packages/atproto/a.ts': `import './b.ts'\nimport { readFileSync } from 'node:fs'\n`,
    }),
  ).toEqual([])
})

test('the command line may read the configuration of the services, and nothing else of theirs', () => {
  const config = `import { x } from '@sluice/indexer/config.ts'\n`
  expect(check({ 'packages/cli/a.ts': config + importing('database') + importing('indexing') })).toEqual([])
  expect(check({ 'packages/cli/a.ts': importing('indexer') })).toEqual(['packages/cli/a.ts:1 arrow'])
  expect(check({ 'packages/cli/a.test.ts': importing('indexer') })).toEqual(['packages/cli/a.test.ts:1 arrow'])
  expect(check({ 'packages/database/a.ts': config })).toContain('packages/database/a.ts:1 arrow')
})

test.each([
  ['packages/cli/a.ts', 'sandbox'],
  ['packages/indexing/a.ts', 'cli'],
  ['packages/events/a.ts', 'runtime'],
  ['packages/runtime/a.ts', 'events'],
  ['packages/collections/a.ts', 'database'],
  ['packages/database/a.ts', 'streams'],
  ['packages/streams/a.ts', 'atproto'],
  ['packages/atproto/a.ts', 'collections'],
  ['packages/database/a.ts', 'indexing'],
  ['packages/indexing/a.ts', 'indexer'],
  ['services/ingester/a.ts', 'backfiller'],
  ['services/indexer/a.ts', 'ingester'],
  ['services/ingester/a.ts', 'database'],
  ['services/backfiller/a.ts', 'database'],
  ['services/backfiller/a.ts', 'indexing'],
  ['services/indexer/main.ts', 'sandbox'],
  ['packages/indexing/a.ts', 'sandbox'],
  ['packages/sandbox/demo.ts', 'indexer'],
])('%s may not import %s, nor declare it', (path, target) => {
  const room = path.split('/').slice(0, 2).join('/')
  expect(check({ [path]: importing(target) })).toEqual([`${path}:1 arrow`, `${room}/package.json:1 arrow`])
})

test.each([
  ['a type import', `import type { X } from '@sluice/database/x.ts'`],
  ['an inline type', `export type X = import('@sluice/database/x.ts').X`],
  ['a dynamic import', `export const x = () => import('@sluice/database/x.ts')`],
  ['an import for its effects', `import '@sluice/database/x.ts'`],
])('%s counts as an import', (_, text) => {
  expect(check({ 'packages/streams/a.ts': `// one line before\n${text}\n` })).toContain('packages/streams/a.ts:2 arrow')
})

test('a comment or a string that looks like an import does not count', () => {
  const text = `// import { x } from '@sluice/database/x.ts'\nexport const s = "import '@sluice/database/x.ts'"\n`
  const files = { 'packages/streams/a.ts': text, 'packages/streams/package.json': '{"name":"@sluice/streams"}' }
  expect(check(files)).toEqual([])
})

test('tests and benches may import the sandbox; the arrows hold for them otherwise', () => {
  const devDependencies = { '@sluice/sandbox': 'workspace:*' }
  const dependencies = { '@sluice/database': 'workspace:*' }
  expect(
    check({
      'packages/streams/a.redis.test.ts': importing('sandbox'),
      'packages/streams/a.bench.ts': importing('sandbox'),
      'packages/streams/testing/world.ts': importing('sandbox'),
      'packages/streams/b.test.ts': importing('database'),
      'packages/streams/package.json': JSON.stringify({ name: '@sluice/streams', dependencies, devDependencies }),
    }),
  ).toEqual(['packages/streams/b.test.ts:1 arrow', 'packages/streams/package.json:1 arrow'])
})

test('production code may not import what exists for tests', () => {
  expect(
    check({
      'packages/streams/a.ts': `import { world } from './testing/world.ts'\nimport '@sluice/events/testing/samples.ts'\n`,
      'packages/streams/a.test.ts': `import { world } from './testing/world.ts'\n`,
    }),
  ).toEqual(['packages/streams/a.ts:1 test-code', 'packages/streams/a.ts:2 test-code'])
})

test('a relative path may not leave its package', () => {
  expect(check({ 'packages/streams/lua/a.ts': `import '../b.ts'\nimport '../../events/codec.ts'\n` })).toEqual([
    'packages/streams/lua/a.ts:2 leaves-package',
  ])
})

test('no barrels, no re-exports between packages', () => {
  expect(
    check({
      'packages/streams/a.ts': `export * from '@sluice/events/codec.ts'\nexport { x } from '@sluice/events/codec.ts'\n`,
      'packages/streams/b.ts': `export { x } from './a.ts'\n`,
      'packages/runtime/index.ts': 'export const x = 1\n',
    }),
  ).toEqual([
    'packages/runtime/index.ts:1 re-export',
    'packages/streams/a.ts:1 re-export',
    'packages/streams/a.ts:2 re-export',
  ])
})

test('what is imported is declared, with its version in the catalog', () => {
  expect(
    check({
      'packages/streams/a.ts': `import 'redis'\nimport '@scope/pkg/deep.js'\nimport 'pg'\n`,
      'packages/streams/a.test.ts': `import 'vitest'\n`,
      'packages/streams/package.json': '{"dependencies":{"redis":"^6.0.0","@scope/pkg":"catalog:"}}',
      'package.json': '{"devDependencies":{"vitest":"catalog:","pg":"catalog:"}}',
    }),
  ).toEqual(['packages/streams/a.ts:3 undeclared', 'packages/streams/package.json:1 version'])
})

test('no SELECT * in runtime SQL', () => {
  const statements = [
    '`select * from record`',
    "'SELECT r.* FROM record r'",
    '`delete from record where uri = ${1} returning *`',
    'db.selectFrom("record").selectAll()',
    '`select count(*) from record`',
    '`insert into record select * from unnest($1::text[])`',
    '`select uri, /* all */ cid from record`',
  ]
  const text = statements.map((statement, i) => `export const s${i} = ${statement}\n`).join('')
  const path = 'packages/database/a.ts'
  expect(check({ [path]: text })).toEqual([1, 2, 3, 4].map((line) => `${path}:${line} select-star`))
  expect(
    check({ 'packages/database/a.pg.test.ts': text, 'packages/sandbox/a.ts': text, 'scripts/a.ts': text }),
  ).toEqual([])
})

test('no console in a daemon', () => {
  const text = `console.log(1)\n// console.log(2)\nexport const s = 'console.log(3)'\n`
  expect(check({ 'services/indexer/a.ts': text })).toEqual(['services/indexer/a.ts:1 console'])
  expect(check({ 'services/indexer/a.test.ts': text, 'packages/sandbox/a.ts': text, 'scripts/a.ts': text })).toEqual([])
})

test('no test that silences the others', () => {
  const text = `test.only('a', f)\ndescribe.only('b', f)\ntest.concurrent.only('c', f)\ntest.each([1]).only('d', f)\nlist.only\n`
  const path = 'packages/streams/a.test.ts'
  expect(check({ [path]: text })).toEqual([1, 2, 3, 4].map((line) => `${path}:${line} only`))
})

test('what only Vitest can read is refused: the daemons run on Node itself', () => {
  const text = 'for (const of of [1]) globalThis.x = of\n'
  expect(check({ 'packages/streams/a.ts': text })).toEqual(['packages/streams/a.ts:1 syntax'])
  expect(check({ 'packages/streams/a.test.ts': text })).toEqual([])
})

test('a file stays readable', () => {
  expect(check({ 'packages/streams/a.ts': '// line\n'.repeat(350) })).toEqual([])
  expect(check({ 'packages/streams/a.ts': '// line\n'.repeat(351) })).toEqual(['packages/streams/a.ts:352 length'])
})

test('the program exits 1 and prints path, line and rule when a rule is broken, 0 when none is', () => {
  const root = mkdtempSync(join(tmpdir(), 'sluice-house-'))
  const run = (files: Record<string, string>): { code: number | null; output: string } => {
    for (const [path, text] of Object.entries(house(files))) {
      mkdirSync(join(root, dirname(path)), { recursive: true })
      writeFileSync(join(root, path), text)
    }
    const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, 'check-house.ts'), root], {
      encoding: 'utf8',
    })
    return { code: status, output: stdout }
  }
  const good = run({ 'packages/streams/a.ts': importing('events') })
  expect(good).toEqual({ code: 0, output: '3 files read, 0 broken rules\n' })
  const bad = run({ 'packages/streams/a.ts': importing('database') })
  expect(bad.code).toBe(1)
  expect(bad.output).toContain(
    'packages/streams/a.ts:1  arrow: packages/streams may not import @sluice/database/x.ts\n',
  )
  rmSync(root, { recursive: true })
})

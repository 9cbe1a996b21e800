import { loadConfig, ConfigError } from '@sluice/runtime/config.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { expect, test } from 'vitest'
import { renderDocuments } from './documents.ts'
import { declaredMetrics } from './metric-declarations.ts'
import { configOf, readRoles, ROLES } from './roles.ts'

const { roles, problems: unread } = await readRoles()
const cli = await configOf('cli')

function declared(text: string, more: Record<string, string> = {}) {
  return declaredMetrics(new Map(Object.entries({ 'services/x/main.ts': text, ...more })), 'services/x/main.ts')
}

test('a metric is read with its type, labels and help, however its literal is written', () => {
  const { metrics, problems } = declared(`
    const a = metrics.counter({ name: 'sluice_a_total', help: 'One ' + 'two.', labels: { host: hosts, why: ['x'] } })
    const gauge = (name: string, help: string) => metrics.gauge({ name, help })
    gauge('sluice_b', 'B.')
    this.#c = new Parts(metrics).histogram({ name: 'sluice_c_seconds', help: \`C.\`, buckets: [1] })`)
  expect(problems).toEqual([])
  expect(metrics).toEqual([
    { name: 'sluice_a_total', type: 'counter', labels: ['host', 'why'], help: 'One two.' },
    { name: 'sluice_b', type: 'gauge', labels: [], help: 'B.' },
    { name: 'sluice_c_seconds', type: 'histogram', labels: [], help: 'C.' },
  ])
})

test.each([
  `metrics.counter({ name: 'sluice_a_total', help: HELP })`,
  `metrics.counter({ name: 'sluice_a_total', help: 'A.', labels })`,
  `const NAME = 'sluice_a_total'; metrics.counter({ name: NAME, help: 'A.' })`,
])('a metric that cannot be read is told, not left out: %s', (text) => {
  expect(declared(text).problems).toEqual([expect.stringContaining('services/x/main.ts: sluice_a_total')])
})

test('a metric declared twice in one role is told', () => {
  const { problems } = declared(`import './b.ts'; m.gauge({ name: 'sluice_a', help: 'A.' })`, {
    'services/x/b.ts': `m.gauge({ name: 'sluice_a', help: 'A.' })`,
  })
  expect(problems).toEqual([expect.stringContaining('sluice_a is declared twice')])
})

test('only what a role loads belongs to it', () => {
  const metric = (name: string): string => `m.gauge({ name: '${name}', help: 'A.' })`
  const { metrics } = declared(`import { a } from '@sluice/streams/a.ts'; import type { B } from './b.ts'`, {
    'packages/streams/a.ts': `import '../streams/c.ts'; ${metric('sluice_a')}`,
    'packages/streams/c.ts': metric('sluice_c'),
    'services/x/b.ts': metric('sluice_b'),
  })
  expect(metrics.map(({ name }) => name)).toEqual(['sluice_a', 'sluice_c'])
})

test('a lexicon that a plugin imports is no source, and declares nothing', () => {
  const note = `import lexicon from './note.json' with { type: 'json' }`
  const { metrics, problems } = declared(`import './note.ts'`, { 'services/x/note.ts': note })
  expect({ metrics, problems }).toEqual({ metrics: [], problems: [] })
})

test('every metric of our roles can be read', () => {
  expect(unread).toEqual([])
  for (const { config, metrics } of roles) {
    const names = metrics.map(({ name }) => name)
    expect(names, config.name).toContain('sluice_build_info')
    expect(names.length, config.name).toBeGreaterThan(10)
  }
})

test('the documents name every variable, alias and metric, each table row having its four cells', () => {
  const documents = renderDocuments(roles, cli)
  const configuration = documents.get('docs/configuration.md')!
  const metricsDocument = documents.get('docs/metrics.md')!
  for (const name of VARIABLES) expect(configuration).toContain(`\`${name}\``)
  for (const { metrics } of roles) for (const { name } of metrics) expect(metricsDocument).toContain(`| \`${name}\` |`)
  for (const text of [configuration, metricsDocument]) {
    const rows = text.split('\n').filter((line) => line.startsWith('|'))
    expect(rows.filter((row) => row.replaceAll('\\|', '').split('|').length !== 6)).toEqual([])
  }
})

test('a variable of another role is accepted by every role, and a misspelt one is refused with the nearest name', async () => {
  const everything = {
    INGESTER_MODE: 'all',
    BACKFILLER_CONSUMER: 'one',
    INDEXER_CONSUMER: 'one',
    DB_POSTGRES_URL: 'postgres://a@b/c',
  }
  for (const role of ROLES) {
    const config = await configOf(role)
    expect(() => loadConfig(config, everything, { known: VARIABLES })).not.toThrow()
    const misspelt = { ...everything, BACKFILER_CONSUMER: 'x', INDEXER_CONCURENCY: '3' }
    const refused = (): unknown => loadConfig(config, misspelt, { known: VARIABLES })
    expect(refused).toThrow(ConfigError)
    expect(refused).toThrow('INDEXER_CONCURENCY is not a variable of ours: did you mean INDEXER_CONCURRENCY?')
  }
})

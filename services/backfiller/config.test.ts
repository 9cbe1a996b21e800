import { loadConfig } from '@sluice/runtime/config.ts'
import { describe, expect, test } from 'vitest'
import { backfillerConfig } from './config.ts'

const required = { REDIS_URL: 'redis://localhost', BACKFILLER_CONSUMER: 'one' }
const load = (name: string, collections: string) =>
  loadConfig(backfillerConfig, { ...required, [name]: collections }, { known: [] })

describe.each(['BACKFILLER_COLLECTIONS', 'INDEXER_COLLECTIONS'])('%s', (name) => {
  test('takes NSIDs and prefixes', () => {
    const { collections, indexerCollections } = load(name, 'app.foo.*,com.example.note')
    expect([...collections, ...indexerCollections]).toEqual(['app.foo.*', 'com.example.note'])
  })

  test.each(['app.foo*', 'app.foo.', 'com.example'])('=%s stops the start, and says what it should be', (bad) => {
    expect(() => load(name, bad)).toThrow(
      `${name} is wrong: ${JSON.stringify(bad)} is neither an NSID nor a prefix such as com.example.*`,
    )
  })
})

test.each([
  ['BACKFILLER_HEADERS_MS', '30000s', 'from 1s to 1h'],
  ['BACKFILLER_IDLE_MS', '30000s', 'from 1s to 1h'],
  ['BACKFILLER_FETCH_MS', '300000s', 'from 1s to 2h'],
  ['BACKFILLER_RECLAIM_IDLE_MS', '60000s', 'from 1s to 1h'],
  ['BACKFILLER_RETRY_MS', '30000m', 'from 1ms to 24h, below 1s only with its unit, such as 250ms'],
  ['BACKFILLER_RETRY_MAX_MS', '21600000s', 'from 1ms to 720h, below 1s only with its unit, such as 250ms'],
])('%s=0 and %s stop the start, and say what is allowed', (name, tooMuch, range) => {
  for (const text of ['0', tooMuch]) {
    const start = () => loadConfig(backfillerConfig, { ...required, [name]: text }, { known: [] })
    expect(start).toThrow(`${range} ("${text}")`)
  }
})

// Meant as 30 seconds and 6 hours. Hosts would be asked again at once, and again.
test.each([
  ['BACKFILLER_RETRY_MS', '30', 'retryMs'],
  ['BACKFILLER_RETRY_MAX_MS', '6', 'retryMaxMs'],
] as const)('%s=%s stops the start; with its unit it does not', (name, text, key) => {
  const start = (value: string) => loadConfig(backfillerConfig, { ...required, [name]: value }, { known: [] })
  expect(() => start(text)).toThrow(`below 1s only with its unit, such as 250ms ("${text}")`)
  expect(start(`${text}ms`)[key]).toBe(Number(text))
})

test.each([
  ['BACKFILLER_REPO_BYTES', '0', 'of at least 1mb'],
  // Meant as the most that a host may send. As the least, no host is quick enough.
  ['BACKFILLER_BYTES_PER_SECOND', '100mb', 'of at most 1mb'],
])('%s=%s stops the start, and says what is allowed', (name, text, range) => {
  const start = () => loadConfig(backfillerConfig, { ...required, [name]: text }, { known: [] })
  expect(start).toThrow(`${range} ("${text}")`)
})

test('BACKFILLER_SKIP_HOSTS takes hosts as they are called in the metrics, and no addresses', () => {
  const start = (hosts: string) =>
    loadConfig(backfillerConfig, { ...required, BACKFILLER_SKIP_HOSTS: hosts }, { known: [] }).skipHosts
  expect(start('gone.example.com,localhost:2583')).toEqual(['gone.example.com', 'localhost:2583'])
  expect(() => start('https://gone.example.com')).toThrow('which is no host such as gone.example.com')
})

test.each(['repo_backfill', 'repo_backfill_priority', 'repo_backfill_priority_dlq'])(
  'BACKFILLER_FIREHOSE_STREAM=%s stops the start: records would be read as repositories to fetch',
  (stream) => {
    const start = () => loadConfig(backfillerConfig, { ...required, BACKFILLER_FIREHOSE_STREAM: stream }, { known: [] })
    expect(start).toThrow(`BACKFILLER_FIREHOSE_STREAM names ${stream}, which is in use by BACKFILLER_BACKFILL_STREAM`)
  },
)

import { loadConfig } from '@sluice/runtime/config.ts'
import { expect, test } from 'vitest'
import { backfillerConfig } from './config.ts'

const required = { REDIS_URL: 'redis://localhost', BACKFILLER_CONSUMER: 'one' }
const load = (collections: string) =>
  loadConfig(backfillerConfig, { ...required, BACKFILLER_COLLECTIONS: collections }, { known: [] })

test('BACKFILLER_COLLECTIONS takes NSIDs and prefixes', () => {
  expect(load('app.foo.*,com.example.note').collections).toEqual(['app.foo.*', 'com.example.note'])
})

test.each(['app.foo*', 'app.foo.', 'com.example'])(
  'BACKFILLER_COLLECTIONS=%s stops the start, and says what it should be',
  (bad) => {
    expect(() => load(bad)).toThrow(
      /BACKFILLER_COLLECTIONS is wrong: .* is neither an NSID nor a prefix such as com\.example\.\*/,
    )
  },
)

test.each([
  ['BACKFILLER_HEADERS_MS', 's'],
  ['BACKFILLER_IDLE_MS', 's'],
  ['BACKFILLER_FETCH_MS', 's'],
  ['BACKFILLER_RECLAIM_IDLE_MS', 's'],
  ['BACKFILLER_RETRY_MS', 'ms'],
  ['BACKFILLER_RETRY_MAX_MS', 'ms'],
  ['BACKFILLER_REPO_BYTES', 'mb'],
])('%s=0 stops the start, and says what is the least', (name, unit) => {
  const start = () => loadConfig(backfillerConfig, { ...required, [name]: '0' }, { known: [] })
  expect(start).toThrow(`of at least 1${unit} ("0")`)
})

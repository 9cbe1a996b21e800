import { loadConfig } from '@sluice/runtime/config.ts'
import { expect, test } from 'vitest'
import { indexerConfig } from './config.ts'

const required = { REDIS_URL: 'redis://localhost', DB_POSTGRES_URL: 'postgres://localhost/x', INDEXER_CONSUMER: 'one' }
const load = (collections: string) =>
  loadConfig(indexerConfig, { ...required, INDEXER_COLLECTIONS: collections }, { known: [] })

test('INDEXER_COLLECTIONS takes NSIDs and prefixes', () => {
  expect(load('app.foo.*,com.example.note').collections).toEqual(['app.foo.*', 'com.example.note'])
})

test.each(['app.foo*', 'app.foo.', 'com.example'])(
  'INDEXER_COLLECTIONS=%s stops the start, and says what it should be',
  (bad) => {
    expect(() => load(bad)).toThrow(
      /INDEXER_COLLECTIONS is wrong: .* is neither an NSID nor a prefix such as com\.example\.\*/,
    )
  },
)

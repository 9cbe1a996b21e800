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

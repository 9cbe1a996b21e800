import { loadConfig } from '@sluice/runtime/config.ts'
import { describe, expect, test } from 'vitest'
import { ingesterConfig } from './config.ts'

const load = (name: string, collections: string) =>
  loadConfig(ingesterConfig, { REDIS_URL: 'redis://localhost', [name]: collections }, { known: [] })

describe.each(['INGESTER_COLLECTIONS', 'INDEXER_COLLECTIONS'])('%s', (name) => {
  test('takes NSIDs and prefixes', () => {
    const { collections, indexerCollections } = load(name, 'app.foo.*,com.example.note')
    expect([...collections, ...indexerCollections]).toEqual(['app.foo.*', 'com.example.note'])
  })

  // What the ingester lets through, the indexer must be able to name as well.
  test.each(['app.foo*', 'app.foo.', 'com.example'])('=%s stops the start, and says what it should be', (bad) => {
    expect(() => load(name, bad)).toThrow(
      `${name} is wrong: ${JSON.stringify(bad)} is neither an NSID nor a prefix such as com.example.*`,
    )
  })
})

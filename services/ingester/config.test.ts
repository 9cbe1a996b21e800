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

test.each([
  ['RELAY_HOSTS', ',', 'RELAY_HOSTS names none'],
  [
    'INGESTER_SKIP_HOSTS',
    'https://gone.example.com',
    'names https://gone.example.com, which is no host such as gone.example.com',
  ],
  ['INGESTER_SKIP_HOSTS', 'Gone.example.com', 'which is no host such as gone.example.com'],
  ['INGESTER_SKIP_HOSTS', 'gone.example.com:443', 'which is no host such as gone.example.com'],
  ['INGESTER_SKIP_DIDS', 'did:plc', 'names did:plc, which is no DID'],
  ['INGESTER_SKIP_DIDS', 'did:plc:abc', 'names did:plc:abc, which is no DID'],
  ['INGESTER_FIREHOSE_STREAM', 'repo_backfill', 'names repo_backfill, which is in use by INGESTER_REPO_STREAM'],
  ['INGESTER_LABEL_STREAM', 'firehose_live', 'names firehose_live, which is in use by INGESTER_FIREHOSE_STREAM'],
  ['INGESTER_PAUSE_MS', '0', 'from 100ms to 1h ("0")'],
  ['INGESTER_PAUSE_MS', '30000s', 'from 100ms to 1h ("30000s")'],
  ['INGESTER_BATCH_TIMEOUT_MS', '1h', 'of at most 1m ("1h")'],
  ['INGESTER_BATCH_TIMEOUT_MS', '60001', 'of at most 1m ("60001")'],
  ['INGESTER_IDLE_MS', '60', 'is neither 0 nor at least 1s ("60")'],
  ['INGESTER_IDLE_MS', '60000m', 'of at most 24h ("60000m")'],
  ['INGESTER_SWEEP_INTERVAL_MS', '86400', 'is neither 0 nor at least 5m ("86400")'],
  ['INGESTER_SWEEP_INTERVAL_MS', '86400000s', 'of at most 720h ("86400000s")'],
  ['INGESTER_SWEEP_GRACE_MS', '900000s', 'of at most 24h ("900000s")'],
  ['INGESTER_MEMORY_BYTES', '1kb', 'of at least 1mb ("1kb")'],
])('%s=%s stops the start, and the operator reads why', (name, text, why) => {
  expect(() => load(name, text)).toThrow(why)
})

test.each([
  ['INGESTER_BATCH_TIMEOUT_MS', '0'],
  ['INGESTER_BATCH_TIMEOUT_MS', '1m'],
  ['INGESTER_IDLE_MS', '0'],
  ['INGESTER_IDLE_MS', '1s'],
  ['INGESTER_SWEEP_INTERVAL_MS', '0'],
  ['INGESTER_SWEEP_INTERVAL_MS', '5m'],
  ['INGESTER_SWEEP_GRACE_MS', '0'],
])('%s=%s is what an operator may want', (name, text) => {
  expect(() => load(name, text)).not.toThrow()
})

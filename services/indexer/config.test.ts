import { ConfigError, loadConfig } from '@sluice/runtime/config.ts'
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

test.each([
  [
    'INDEXER_HANDLE_REFRESH_MS',
    '0',
    /is not a time in milliseconds, or such as 30s, 5m or 2h, from 1h to 8760h \("0"\)/,
  ],
  ['INDEXER_HANDLE_REFRESH_MS', '5m', /from 1h to 8760h/],
  // A time so far ahead is no date.
  ['INDEXER_HANDLE_REFRESH_MS', '9007199254740991', /from 1h to 8760h/],
  ['INDEXER_RECLAIM_IDLE_MS', '0', /from 1s to 1h/],
  ['INDEXER_RECLAIM_IDLE_MS', '60000s', /from 1s to 1h/],
  ['SLUICE_DRAIN_MS', '0', /from 1ms to 24h/],
  ['SLUICE_DRAIN_MS', '720h', /from 1ms to 24h/],
  // Meant as seconds.
  ['SLUICE_DRAIN_MS', '25', /below 1s only with its unit/],
  ['INDEXER_MEMORY_BYTES', '0', /is not a size such as 1048576, 64kb, 512mb or 2gb, of at least 1mb/],
  ['INDEXER_STREAMS', ',', /names none/],
  ['INDEXER_STREAMS', 'a,b,a', /names a twice/],
  ['INDEXER_STREAMS', 'firehose_live,firehose_live_dlq', /names firehose_live_dlq, which is in use beside/],
  ['INDEXER_STREAMS', 'firehose_live,label_live', /INDEXER_STREAMS names label_live, .* by INDEXER_LABEL_STREAM/],
  ['INDEXER_REPO_STREAM', 'firehose_live', /INDEXER_REPO_STREAM names firehose_live, .* by INDEXER_STREAMS/],
  ['INDEXER_HANDLE_NAMESERVERS', 'foo', /names foo, which is no address/],
  ['INDEXER_HANDLE_NAMESERVERS', '1.1.1.1:99999', /names 1\.1\.1\.1:99999, which is no address/],
  ['DB_POSTGRES_SCHEMA', 'My-Schema', /is no name of letters, digits and underscores/],
  ['DB_POSTGRES_URL', 'postgres://u:hunter2@a,b/x?target_session_attrs=read-write', /names several hosts/],
  ['DB_POSTGRES_URL', 'postgres:///x?host=a,b', /names several hosts/],
  ['REDIS_URL', 'redis://u:hunter2@h/abc', /names its database by something else than a number/],
])('%s=%s stops the start, and the operator reads why', (name, text, why) => {
  const start = () => loadConfig(indexerConfig, { ...required, [name]: text }, { known: [] })
  expect(start).toThrow(ConfigError)
  expect(start).toThrow(why)
  expect(start).not.toThrow(/hunter2/)
})

test('DB_POSTGRES_URL and REDIS_URL may be written without their scheme', () => {
  const env = { ...required, DB_POSTGRES_URL: 'localhost', REDIS_URL: 'localhost' }
  const { postgresUrl, redisUrl } = loadConfig(indexerConfig, env, { known: [] })
  expect([postgresUrl, redisUrl]).toEqual(['postgres://localhost', 'redis://localhost'])
})

test('INDEXER_HANDLE_NAMESERVERS takes addresses with and without a port, of both kinds', () => {
  const text = '1.1.1.1,8.8.8.8:5353,2606:4700::1111,[2606:4700::1111]:53'
  const env = { ...required, INDEXER_HANDLE_NAMESERVERS: text }
  expect(loadConfig(indexerConfig, env, { known: [] }).handleNameservers).toEqual(text.split(','))
})

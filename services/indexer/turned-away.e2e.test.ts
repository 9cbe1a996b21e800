/**
 * An account whose did:web is turned away, since too many wait, was not asked about: it is due again within seconds,
 * and that is no failure of it. Nor are they asked about without a pause.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { httpServer } from '@sluice/atproto/testing/servers.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { IdentityEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { AccountChecks } from './check-accounts.ts'
import { Deletions } from './delete-accounts.ts'
import { Handles } from './resolve-handles.ts'
import { account, poll, STREAM } from './testing/deletion-scene.ts'
import { append, openRedis, startIndexer } from './testing/indexers.ts'

const did = 'did:web:crowded.example'
const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })

const PLACES = 8

interface Scene {
  /** How long a service waits that has nothing to do. */
  pollMs?: number
  /** There before the services are. */
  dids?: string[]
}

/** Nobody can wait for a did:web: each one is turned away. */
async function crowded(database: string, redisUrl: string, { pollMs = 20, dids = [] }: Scene = {}) {
  await using stack = new AsyncDisposableStack()
  const redis = stack.use(await openRedis(redisUrl))
  const highWater = new HighWater({ redis, stream: STREAM, entriesMax: 1_000 })
  const producer = new Producer({ redis, stream: STREAM, codec: backfillEventCodec, highWater })
  const index = stack.use(indexOn(database))
  if (dids.length > 0) await applyBatch(index, dids.map(heardOf))
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const cache = new MemoryIdentityCache()
  const identities = new IdentityResolver({ plcUrl: 'http://127.0.0.1:1', http, cache, webWaiting: 0 })
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const shared = { db: index.db, identities, xrpc: new XrpcClient(http), log, metrics, pollMs }
  const schedule = { refreshMs: 3_600_000, retryMs: 600_000, noneMs: 600_000, capMs: 3_600_000 }
  const services = [
    new AccountChecks({ ...shared, retryMs: 600_000 }),
    new Deletions({ ...shared, index, redis, producer, retryMs: 600_000 }),
    new Handles({ ...shared, handles: new HandleResolver({ http }), concurrency: PLACES, schedule }),
  ]
  const stopping = new AbortController()
  const running = Promise.all(services.map((service) => service.run(stopping.signal)))
  stack.defer(async () => {
    stopping.abort()
    await running
  })
  const resources = stack.move()
  return { index, metrics, [Symbol.asyncDispose]: () => resources.disposeAsync() }
}

function heardOf(of: string): IdentityEvent {
  return { type: 'identity', seq: 1, time: '2026-06-01T00:00:00.000Z', did: of }
}

test('A4 the check of its handle comes again within seconds, in its own queue, and counts as no try', async ({
  database,
  redisUrl,
}) => {
  await using it = await crowded(database, redisUrl)
  await applyBatch(it.index, [heardOf(did)])
  const turnedAway = 'handle_checks_total{queue="new",outcome="turned-away"} 1'
  await expect.poll(() => it.metrics.render(), poll).toContain(turnedAway)
  const text = 'select queue, tries::int as tries, "dueAt" < $2 as soon from handle_check where did = $1'
  const soon = new Date(Date.now() + 60_000).toISOString()
  const held = async () => (await it.index.db.query(text, [did, soon])).rows
  await expect.poll(held, poll).toEqual([{ queue: 'new', tries: 0, soon: true }])
})

test('A4 any number of handles that are turned away is not claimed and written without a pause, in which a stop is not waited for', async ({
  database,
  redisUrl,
}) => {
  const dids = Array.from({ length: 400 }, (_, i) => `did:web:n${i}.crowded.example`)
  await using it = await crowded(database, redisUrl, { pollMs: 3_600_000, dids })
  const turnedAway = async () =>
    Number(/handle_checks_total\{queue="new",outcome="turned-away"\} (\d+)/.exec(await it.metrics.render())?.[1])
  await expect.poll(turnedAway, poll).toBeGreaterThanOrEqual(2 * PLACES)
  await delay(1_000)
  // With what was under way when it noticed.
  expect(await turnedAway()).toBeLessThanOrEqual(3 * PLACES)
})

test('A1 how it stands is asked again within seconds, as before, and that was no question', async ({
  database,
  redisUrl,
}) => {
  await using it = await crowded(database, redisUrl)
  await applyBatch(it.index, [
    account('2026-06-01T12:00:00.000Z', true, undefined, did),
    account('2026-06-01T12:00:01.000Z', false, 'deactivated', did),
  ])
  const turnedAway = 'account_checks_total{outcome="turned-away"} 1'
  await expect.poll(() => it.metrics.render(), poll).toContain(turnedAway)
  const text = 'select state, tries::int as tries, "dueAt" < $2 as soon from account_check where did = $1'
  const soon = new Date(Date.now() + 60_000).toISOString()
  const held = async () => (await it.index.db.query(text, [did, soon])).rows
  await expect.poll(held, poll).toEqual([{ state: 'new', tries: 0, soon: true }])
})

test('A2 whether it is gone is asked again within seconds, and nothing is removed', async ({ database, redisUrl }) => {
  await using it = await crowded(database, redisUrl)
  await applyBatch(it.index, [account('2026-06-01T12:00:00.000Z', false, 'deleted', did)])
  const turnedAway = 'account_deletions_total{outcome="turned-away"} 1'
  await expect.poll(() => it.metrics.render(), poll).toContain(turnedAway)
  const text = 'select state, tries::int as tries, "dueAt" < $2 as soon from account_deletion where did = $1'
  const soon = new Date(Date.now() + 60_000).toISOString()
  const held = async () => (await it.index.db.query(text, [did, soon])).rows
  await expect.poll(held, poll).toEqual([{ state: 'reported', tries: 0, soon: true }])
})

test('A4 of an owner whose hosts do not answer no document is asked for during a minute; the accounts that were turned away come after it', async ({
  database,
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  let asked = 0
  const dids: string[] = []
  for (let i = 0; i < 6; i++) {
    const { url } = stack.use(await httpServer(() => void asked++))
    dids.push(`did:web:localhost%3A${new URL(url).port}`)
  }
  const redis = stack.use(await openRedis(redisUrl))
  const index = stack.use(indexOn(database))
  await append(redis, 'firehose_live', dids.map(heardOf))
  const env = { INDEXER_HANDLES: 'true', ALLOW_PRIVATE_HOSTS: 'true', PLC_URL: 'http://127.0.0.1:1' }
  stack.use(await startIndexer({ database, redisUrl }, 'one', env))
  // One that is claimed is due in ten minutes.
  const text = `select from handle_check where queue = 'new' and tries = 0 and "dueAt" between $1 and $2`
  const late = async () => {
    const [from, to] = [45_000, 300_000].map((ms) => new Date(Date.now() + ms).toISOString())
    return (await index.db.query(text, [from, to])).rowCount
  }
  await expect.poll(late, { ...poll, timeout: 60_000 }).toBeGreaterThan(0)
  expect(asked).toBeGreaterThanOrEqual(2)
})

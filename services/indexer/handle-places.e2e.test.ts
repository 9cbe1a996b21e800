/**
 * A4: accounts of one wildcard domain, whose servers accept and never answer, keep nobody else's handle from being
 * verified.
 */
import type { ServerResponse } from 'node:http'
import { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { dnsServer } from '@sluice/atproto/testing/dns-server.ts'
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Handles } from './resolve-handles.ts'
import { poll } from './testing/deletion-scene.ts'

const CONCURRENCY = 16
const SCHEDULE = { refreshMs: 3_600_000, retryMs: 5_000, noneMs: 3_600_000, capMs: 3_600_000 }

/** A directory, and a network in which every name leads to one server, that is silent below `evil.com`. */
async function network(stack: AsyncDisposableStack, handles: ReadonlyMap<string, string>) {
  const silent: ServerResponse[] = []
  const dids = new Map([...handles].map(([did, handle]) => [handle, did]))
  const dns = stack.use(await dnsServer(() => 'NXDOMAIN'))
  const server = stack.use(
    await httpServer((request, response) => {
      const name = request.url!.split('/')[1]!
      if (name.endsWith('evil.com')) return void silent.push(response)
      const handle = handles.get(name)
      if (handle !== undefined) return json(response, { id: name, alsoKnownAs: [`at://${handle}`] })
      response.end(dids.get(name))
    }),
  )
  const client = stack.adopt(new HttpClient({ allowPrivate: true, connectionsPerHost: 100 }), (client) =>
    client.close(),
  )
  const http: Pick<HttpClient, 'get'> = {
    get: (url, options) => client.get(`${server.url}/${new URL(url).host}`, options),
  }
  const identities = new IdentityResolver({ plcUrl: server.url, http: client, cache: new MemoryIdentityCache() })
  // Longer than the test.
  const timeoutMs = 600_000
  const resolver = new HandleResolver({ http, nameservers: [dns.address], timeoutMs, concurrency: CONCURRENCY })
  return { silent, identities, handles: resolver }
}

test('A4 what nobody answers for below one domain leaves places to the others, who are verified meanwhile', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const evil = Array.from({ length: 200 }, (_, i) => [testDid(`evil ${i}`), `h${i}.evil.com`] as const)
  const good = Array.from({ length: 200 }, (_, i) => [testDid(`good ${i}`), `u${i}.bsky.social`] as const)
  const { silent, ...sources } = await network(stack, new Map([...evil, ...good]))
  const index = stack.use(indexOn(database))
  const heardOf = (accounts: readonly (readonly [string, string])[], minute: number) =>
    applyBatch(
      index,
      accounts.map(([did], seq) => ({ type: 'identity', seq, time: `2026-06-01T00:0${minute}:00.000Z`, did })),
    )
  // Those that are silent are the first in the queue, and all of them before the first of the others.
  await heardOf(evil, 1)
  await new Promise((resolve) => setTimeout(resolve, 10))
  await heardOf(good, 2)
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })
  const options = { db: index.db, log, metrics, concurrency: CONCURRENCY, schedule: SCHEDULE, pollMs: 20 }
  const stopping = new AbortController()
  const running = new Handles({ ...options, ...sources }).run(stopping.signal)
  stack.defer(async () => {
    stopping.abort()
    await running
  })
  const verified = async () => (await index.db.query('select from actor where handle is not null')).rowCount
  await expect.poll(verified, { ...poll, timeout: 60_000 }).toBe(good.length)
  expect(silent.length).toBeGreaterThan(0)
  expect(silent.length).toBeLessThanOrEqual(CONCURRENCY / 2)
  const { rows } = await index.db.query(
    `select distinct queue, tries::int as tries from handle_check where did = any($1)`,
    [evil.map(([did]) => did)],
  )
  // Nothing is known of them, and nobody charged.
  expect(rows).toEqual([{ queue: 'new', tries: 0 }])
  expect(await metrics.render()).toContain('handle_checks_total{queue="new",outcome="turned-away"}')
})

/** The service that asks how accounts stand, at work on an index, with a host that says what a test wants. */
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { AccountChecks } from '../check-accounts.ts'
import type { HostPace } from '../host-pace.ts'
import { did, PATIENT, startWorld } from './deletion-scene.ts'

export async function checking(database: string, pace: HostPace = PATIENT) {
  await using stack = new AsyncDisposableStack()
  const world = await startWorld()
  stack.use(world.server)
  const index = stack.use(indexOn(database))
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const cache = new MemoryIdentityCache()
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const checks = new AccountChecks({
    db: index.db,
    identities: new IdentityResolver({ plcUrl: world.server.url, http, cache, refreshEveryMs: 0 }),
    xrpc: new XrpcClient(http),
    log: createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] }),
    metrics,
    pollMs: 20,
    retryMs: 20,
    pace,
  })
  const stopping = new AbortController()
  const running = checks.run(stopping.signal)
  stack.defer(async () => {
    stopping.abort()
    await running
  })
  const read = async (text: string) => (await index.db.query(text, [did])).rows
  const resources = stack.move()
  return {
    world,
    apply: async (...events: AccountEvent[]) => await applyBatch(index, events),
    status: async () => await read('select "upstreamStatus" from actor where did = $1'),
    check: async () => await read('select state from account_check where did = $1'),
    /** Of accounts in that state, how many there are. */
    inState: async (state: string) =>
      (await index.db.query('select from account_check where state = $1', [state])).rowCount,
    metrics: async () => await metrics.render(),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

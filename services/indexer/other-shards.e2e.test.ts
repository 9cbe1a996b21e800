/**
 * A1: an indexer asks about accounts of other shards too, whose news purge another Redis's cache of identities than its
 * own.
 */
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { isInShard } from '@sluice/streams/spread.ts'
import { AccountChecks } from './check-accounts.ts'
import { account, poll } from './testing/deletion-scene.ts'

const SHARD = { index: 0, of: 2 }
const DIDS = Array.from({ length: 20 }, (_, i) => testDid(`of a shard ${i}`))
const OWN = DIDS.find((did) => isInShard(did, SHARD))!
const OTHER = DIDS.find((did) => !isInShard(did, SHARD))!

/** A host that says the same of every account. */
async function hostSaying(status: object) {
  return await httpServer((request, response) => {
    const did = new URL(request.url!, 'http://host').searchParams.get('did')
    json(response, { did, ...status })
  })
}

test('A1 whoever has moved since they were last asked about, of another shard, is asked about at their new host; of its own it has heard', async ({
  database,
}) => {
  await using stack = new AsyncDisposableStack()
  const before = stack.use(await hostSaying({ active: false, status: 'deactivated' }))
  const after = stack.use(await hostSaying({ active: true }))
  let serviceEndpoint = before.url
  const directory = stack.use(
    await httpServer((request, response) => {
      const service = [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint }]
      json(response, { id: request.url!.slice(1), alsoKnownAs: [], service })
    }),
  )
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const identities = new IdentityResolver({ plcUrl: directory.url, http, cache: new MemoryIdentityCache() })
  // Each was asked about a moment ago, and has moved since. No news have come by here.
  for (const did of [OWN, OTHER]) expect((await identities.refresh(did)).refreshed).toBe(true)
  serviceEndpoint = after.url

  const index = stack.use(indexOn(database))
  const { db } = index
  for (const did of [OWN, OTHER]) {
    await applyBatch(index, [account('2026-06-01T12:00:00.000Z', true, undefined, did)])
    await applyBatch(index, [account('2026-06-01T12:00:01.000Z', false, 'deactivated', did)])
  }
  await db.query(`update account_check set "dueAt" = ''`)
  const log = createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] })
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const xrpc = new XrpcClient(http)
  const checks = new AccountChecks({ db, identities, xrpc, shard: SHARD, log, metrics, pollMs: 20 })
  const stopping = new AbortController()
  const running = checks.run(stopping.signal)
  const asked = async () => (await db.query(`select from account_check where state = 'asked'`)).rowCount
  await expect.poll(asked, poll).toBe(2)
  stopping.abort()
  await running
  const { rows } = await db.query('select did, "upstreamStatus" as status from actor')
  expect(new Map(rows.map(({ did, status }) => [did, status]))).toEqual(
    new Map([
      [OTHER, null],
      [OWN, 'deactivated'],
    ]),
  )
  expect(directory.requests.toSorted()).toEqual([`/${OWN}`, `/${OTHER}`, `/${OTHER}`].toSorted())
})

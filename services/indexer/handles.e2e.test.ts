/**
 * A4: handles are verified both ways while the directory has its troubles; failing accounts starve nobody; events never
 * wait.
 */
import { HandleResolver } from '@sluice/atproto/handle-resolver.ts'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { importIdentities } from '@sluice/indexing/identity-import.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { whileHeld } from '@sluice/indexing/testing/while-held.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { shardOf, type Shard } from '@sluice/streams/spread.ts'
import { Handles } from './resolve-handles.ts'
import { TROUBLES, TroubledDirectory, type DirectoryAccount } from './testing/troubled-directory.ts'

const ACTORS = Number(process.env.ACTORS ?? 1_000)
const SCHEDULE = { refreshMs: 3_600_000, retryMs: 100, noneMs: 100, capMs: 800 }
const LETTERS = '234567abcdefghijklmnopqrstuvwxyz' // in byte order, so that the accounts are too

function accounts(): DirectoryAccount[] {
  return Array.from({ length: ACTORS }, (_, i) => {
    const name = [4, 3, 2, 1, 0].map((place) => LETTERS[Math.floor(i / 32 ** place) % 32]).join('')
    const account: DirectoryAccount = { did: `did:plc:${name.padStart(24, '2')}`, handle: `u${i}.test` }
    return i % 10 < 3 ? { ...account, trouble: TROUBLES[i % TROUBLES.length]! } : account
  })
}

function eventsOf(dids: readonly string[], minute: number): StreamEvent[] {
  const time = `2026-06-01T00:0${minute}:00.000Z`
  return dids.map((did, i) => ({ type: 'identity', seq: i + 1, time, did }))
}

/** The service as the indexer builds it, with short waits. */
function handlesOf(
  index: Index,
  directory: TroubledDirectory,
  http: HttpClient,
  {
    cache = new MemoryIdentityCache(),
    metrics = new Metrics({ role: 'test', build: 'test' }),
    shard,
  }: { cache?: MemoryIdentityCache; metrics?: Metrics; shard?: Shard } = {},
): Handles {
  return new Handles({
    db: index.db,
    identities: new IdentityResolver({
      plcUrl: directory.url,
      http,
      cache,
      timeoutMs: 400,
      plcPerSecond: 100_000,
      negativeMs: 1,
      refreshEveryMs: 0,
    }),
    handles: new HandleResolver({ http, askPdsFor: ['.test'], timeoutMs: 5_000, perSecond: 100_000 }),
    log: createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] }),
    metrics,
    concurrency: 64,
    schedule: SCHEDULE,
    pollMs: 20,
    ...(shard && { shard }),
    outage: { baseMs: 50, capMs: 200, healthyAfterMs: 0 },
  })
}

async function until(what: string, holds: () => Promise<boolean>, ms = 60_000 + 20 * ACTORS): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`not so within ${ms} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

test('A4 all good handles are verified in the end, whatever the directory does meanwhile, and no event waits for it', async ({
  database,
}) => {
  const all = accounts()
  const good = all.filter(({ trouble }) => trouble === undefined)
  const bad = all.filter(({ trouble }) => trouble !== undefined)
  expect(bad.length).toBe(Math.floor((ACTORS * 3) / 10))
  await using directory = await TroubledDirectory.start(all)
  const http = new HttpClient({ allowPrivate: true, connectionsPerHost: 64 })
  const db = new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' })
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await using resources = new AsyncDisposableStack()
  resources.defer(() => db.close())
  resources.defer(() => http.close())

  const verified = async (): Promise<number> => (await db.query('select from actor where handle is not null')).rowCount!
  const stopping = new AbortController()
  const running = handlesOf(index, directory, http).run(stopping.signal)
  resources.defer(async () => {
    stopping.abort()
    await running
  })

  // The first half comes while the directory works, the second while it answers nobody.
  const dids = all.map(({ did }) => did)
  const half = dids.length / 2
  await applyBatch(index, eventsOf(dids.slice(0, half), 1))
  await until('some are verified', async () => (await verified()) > 20)
  directory.away = true
  const before = directory.unanswered
  for (let at = half; at < dids.length; at += 50) await applyBatch(index, eventsOf(dids.slice(at, at + 50), 2))
  await until('the outage is met', async () => directory.unanswered > before + 16)
  // For a moment any transaction may be idle; one that waits for the directory stays so.
  const idle = async (): Promise<unknown[]> =>
    (await db.query(`select query from pg_stat_activity where state like 'idle in transaction%'`)).rows
  await expect.poll(idle, { timeout: 5_000 }).toEqual([])
  const { rowCount: applied } = await db.query('select from actor')
  expect({ applied, away: directory.away }).toEqual({ applied: ACTORS, away: true })
  directory.away = false

  const last = good.at(-1)!
  await until('all good handles are verified', async () => (await verified()) === good.length)
  const { rows } = await db.query<{ did: string; handle: string }>(
    'select did, handle from actor where handle is not null order by did',
  )
  expect(rows).toEqual(good.map(({ did, handle }) => ({ did, handle })))
  expect(directory.limited).toBeGreaterThan(0)
  await until('those that fail are tried again', async () => (directory.asked.get(bad[0]!.did)?.length ?? 0) > 3)
  expect(overdone(directory, [...bad, last])).toEqual([])
})

test('A4 an imported directory is not asked for accounts that a backfill brought, when their handles lead to them', async ({
  database,
}) => {
  const all = accounts().slice(0, 20)
  const good = all.filter(({ trouble }) => trouble === undefined)
  await using directory = await TroubledDirectory.start(all)
  await using resources = new AsyncDisposableStack()
  const http = resources.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const db = resources.use(new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' }))
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const operation = ({ handle }: DirectoryAccount) => ({
    type: 'plc_operation',
    alsoKnownAs: [`at://${handle}`],
    services: { atproto_pds: { type: 'AtprotoPersonalDataServer', endpoint: directory.url } },
  })
  const lines = all.map((account) =>
    JSON.stringify({ did: account.did, operation: operation(account), createdAt: '2026-06-01T00:00:00.000Z' }),
  )
  await importIdentities(db, ReadableStream.from<string>(lines), { signal: new AbortController().signal })
  const time = '2026-06-02T00:00:00.000Z'
  await applyBatch(
    index,
    all.map(({ did }): StreamEvent => ({ type: 'repo', time, did, commit: '', rev: '3kabcdefghijk' })),
  )
  const stopping = new AbortController()
  const running = handlesOf(index, directory, http).run(stopping.signal)
  resources.defer(async () => {
    stopping.abort()
    await running
  })
  const verified = async (): Promise<number> => (await db.query('select from actor where handle is not null')).rowCount!
  await until('all good handles are verified', async () => (await verified()) >= good.length)
  expect(good.filter(({ did }) => directory.asked.has(did))).toEqual([])
  // A handle that the import claims and that leads elsewhere is asked about.
  const liar = all.find(({ trouble }) => trouble === 'leads-elsewhere')!
  await until('the directory is asked about the others', () => Promise.resolve(directory.asked.has(liar.did)))
  const { rows } = await db.query('select handle from actor where did = $1', [liar.did])
  expect(rows).toEqual([{ handle: null }])
})

test('A4 a cache that misses the identity events of other shards is not asked about their accounts', async ({
  database,
}) => {
  const all = Array.from({ length: 12 }, (_, i) => ({ did: `did:plc:${String(i).padStart(24, 'a')}`, handle: `u${i}.test` })) // prettier-ignore
  const shard = { index: 1, of: 2 }
  const own = all.filter(({ did }) => shardOf(did, 2) === 1)
  expect(own.length).toBeGreaterThan(0)
  expect(own.length).toBeLessThan(all.length)
  await using directory = await TroubledDirectory.start(all)
  await using resources = new AsyncDisposableStack()
  const http = resources.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const db = resources.use(new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' }))
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const cache = await cacheOf(all, directory)
  // Had the handle of the first before it, and is not checked itself.
  await db.query(`insert into actor (did, handle, "indexedAt") values ('did:plc:former', $1, '')`, [all[0]!.handle])
  await applyBatch(index, eventsOf(all.map(({ did }) => did), 1)) // prettier-ignore
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const stopping = new AbortController()
  const running = handlesOf(index, directory, http, { cache, shard, metrics }).run(stopping.signal)
  resources.defer(async () => {
    stopping.abort()
    await running
  })
  const verified = async (): Promise<number> =>
    (await db.query(`select from actor where handle is not null and did <> 'did:plc:former'`)).rowCount!
  await until('all handles are verified', async () => (await verified()) === all.length)
  expect(all.filter(({ did }) => !directory.asked.has(did))).toEqual(own)
  expect((await db.query(`select from actor where did = 'did:plc:former' and handle is null`)).rowCount).toBe(1)
  const checks = `sluice_handle_checks_total{queue="new",outcome="verified"} ${all.length}\n`
  await expect.poll(() => metrics.render()).toContain(checks)
  await expect.poll(() => metrics.render()).toContain('sluice_handle_dispossessed_total 1\n')
})

test('A4 answers from the cache do not end an outage of the directory: it is one until the directory has answered', async ({
  database,
}) => {
  const all = accounts().filter(({ trouble }) => trouble === undefined)
  await using directory = await TroubledDirectory.start(all)
  await using resources = new AsyncDisposableStack()
  const http = resources.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const db = resources.use(new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' }))
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const cache = await cacheOf(
    all.filter((_, i) => i % 2 === 1),
    directory,
  )
  await applyBatch(index, eventsOf(all.map(({ did }) => did), 1)) // prettier-ignore
  directory.away = 'for documents'
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const outages = async (): Promise<string | undefined> =>
    /^sluice_handle_directory_outages_total\S* (\d+)$/m.exec(await metrics.render())?.[1]
  const stopping = new AbortController()
  const running = handlesOf(index, directory, http, { cache, metrics }).run(stopping.signal)
  resources.defer(async () => {
    stopping.abort()
    await running
  })
  await until('the outage is met', async () => (await outages()) !== '0')
  const asked = directory.unanswered
  await until('the directory is probed', async () => directory.unanswered > asked + 30)
  expect(await outages()).toBe('1')
  directory.away = false
  const verified = async (): Promise<number> => (await db.query('select from actor where handle is not null')).rowCount!
  await until('all handles are verified', async () => (await verified()) === all.length)
  expect(await outages()).toBe('1')
})

/** A cache that knows these accounts. */
async function cacheOf(
  accounts: readonly { did: string; handle: string }[],
  { url: pds }: TroubledDirectory,
): Promise<MemoryIdentityCache> {
  const cache = new MemoryIdentityCache()
  for (const { did, handle } of accounts) {
    const { epoch } = await cache.get(did)
    const resolution = { status: 'found', identity: { did, handle, pds } } as const
    await cache.set(did, { resolution, resolvedAt: Date.now() }, epoch)
  }
  return cache
}

/** DIDs that were asked for earlier than their backoff allows: the nth wait is at least half of what doubling gives. */
function overdone({ asked }: TroubledDirectory, among: readonly DirectoryAccount[]): string[] {
  return among.flatMap(({ did, trouble }) => {
    const times = asked.get(did) ?? []
    if (times.length === 0) return [`${did} was never asked for`]
    const early = times
      .slice(1)
      .findIndex((at, i) => at - times[i]! < Math.min(SCHEDULE.capMs, SCHEDULE.retryMs * 2 ** i) / 2 - 1)
    return early === -1 ? [] : [`${did} (${trouble}): wait ${early + 1} of ${times.map(Math.round).join(' ')}`]
  })
}

test('D9 a stop while PostgreSQL takes no writes is no failure of the checks: a claim ends by the clock', async ({
  database,
}) => {
  await using directory = await TroubledDirectory.start([])
  await using stack = new AsyncDisposableStack()
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const url = `${database}?options=-c%20default_transaction_read_only%3Don`
  await using db = new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' })
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await expect(handlesOf(index, directory, http).run(new AbortController().signal)).rejects.toThrow('read-only')

  const stopping = new AbortController()
  await using writing = indexOn(database)
  await whileHeld(writing, ['lock table handle_check in access exclusive mode'], async (waiting) => {
    const running = handlesOf(index, directory, http).run(stopping.signal)
    // Its claim is under way.
    await waiting(1)
    stopping.abort()
    return [expect(running).resolves.toBeUndefined()]
  })
})

/**
 * An account with records whose deletion is reported, a host that says of it what a test wants, and the service at work
 * on it.
 */
import type { ServerResponse } from 'node:http'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import { httpServer, json, type TestServer } from '@sluice/atproto/testing/servers.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Index } from '@sluice/indexing/apply-batch.ts'
import { KnownActors } from '@sluice/indexing/own.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { moveChain, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { WHOLE, type Shard } from '@sluice/streams/spread.ts'
import { Deletions } from '../delete-accounts.ts'
import { HostPace } from '../host-pace.ts'
import { openRedis } from './indexers.ts'

export const STREAM = 'repo_backfill'
export const events = history({ seed: 3, events: 150 })
export const { did } = events[0]!
export const deletedAt = new Date(Date.parse(events.at(-1)!.time) + 1_000).toISOString()
const signal = new AbortController().signal
const HEAD = { cid: 'bafyreib2rxk3rh6kzwq6tnxgvqnpdjqjmfjxqzq4v2kbh5y3hbhcpx2f6a', rev: '3kabcdefghijk' }

export function account(time: string, active: boolean, status?: string, of = did): AccountEvent {
  return { type: 'account', seq: 1, time, did: of, active, ...(status !== undefined && { status }) }
}

export type Says =
  'active' | 'deactivated' | 'old' | 'unreadable' | 'disliked' | 'gone' | 'nothing' | 'elsewhere' | 'later' | 'homeless'

export interface World {
  /** What the host says of every account. */
  says: Says
  /** By whom it was asked and said nothing so far: each answers when it is called. */
  later: ((says: Says) => void)[]
  /** Of whom the directory says that they were ended: no host is asked. */
  ended: Set<string>
  /** Where accounts are that are not here. */
  homes: Map<string, string>
  server: TestServer
}

/** Directory and host in one. */
export async function startWorld(): Promise<World> {
  const world = { says: 'nothing', later: [] as World['later'], ended: new Set(), homes: new Map() } as unknown as World
  world.server = await httpServer((request, response) => {
    const url = new URL(request.url!, 'http://host')
    const asked = url.searchParams.get('did') ?? url.pathname.slice(1)
    if (!url.pathname.startsWith('/xrpc/')) {
      if (world.ended.has(asked)) return json(response, { message: `DID not available: ${asked}` }, 410)
      const serviceEndpoint = world.homes.get(asked) ?? world.server.url
      const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint }
      return json(response, { id: asked, alsoKnownAs: [], service: world.says === 'homeless' ? [] : [service] })
    }
    answer(world, { asked, url: request.url!, response })
  })
  return world
}

function answer(
  world: World,
  { asked, url, response, says = world.says }: { asked: string; url: string; response: ServerResponse; says?: Says },
): void {
  switch (says) {
    case 'active':
      return json(response, { did: asked, active: true, rev: '3kabcdefghijk' })
    case 'deactivated':
      return json(response, { did: asked, active: false, status: 'deactivated' })
    case 'old':
      // It does not know `getRepoStatus`, and has the repository.
      if (!url.includes('.getLatestCommit?')) return json(response, { error: 'MethodNotImplemented' }, 501)
      return json(response, HEAD)
    case 'unreadable':
      return json(response, { did: asked, active: false, status: 'a\u0000b' })
    case 'disliked':
      return json(response, { did: asked, active: false, status: 'disliked' })
    case 'gone':
      return json(response, { error: 'RepoNotFound', message: 'not here' }, 400)
    case 'nothing':
    case 'homeless':
      return void response.writeHead(503).end()
    case 'elsewhere':
      return void response.writeHead(302, { location: url }).end()
    case 'later':
      return void world.later.push((said) => answer(world, { asked, url, response, says: said }))
  }
}

export interface Scene extends AsyncDisposable {
  index: Index
  /** Another one, beside that which is at work. */
  serviceOn: (index: Index) => Deletions
  redis: Redis
  world: World
  records: () => Promise<number>
  status: () => Promise<unknown[]>
  requested: () => Promise<unknown[]>
  /** How often the account's host gave no answer. */
  tries: () => Promise<number | undefined>
  /** Whether the account was looked at, and put off for some seconds. */
  isPutOff: () => Promise<boolean>
  outcomes: (outcome: string) => Promise<number>
}

/** By its clock no host is slow, however long a test takes. */
export const PATIENT = new HostPace(() => 0)

/** An index with records of the account, its deletion reported, and the service at work. */
export async function scene(
  database: string,
  redisUrl: string,
  { shard = WHOLE, pace = PATIENT }: { shard?: Shard; pace?: HostPace } = {},
): Promise<Scene> {
  await using stack = new AsyncDisposableStack()
  const world = await startWorld()
  stack.use(world.server)
  const redis = stack.use(await openRedis(redisUrl))
  const db = stack.use(new DatabasePool({ url: database, schema: 'bsky', size: 4, role: 'test' }))
  const http = stack.adopt(new HttpClient({ allowPrivate: true }), (client) => client.close())
  const index: Index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const producer = new Producer({ redis, stream: STREAM, codec: backfillEventCodec, highWater: new HighWater({ redis, stream: STREAM, entriesMax: 1_000 }) }) // prettier-ignore
  const metrics = new Metrics({ role: 'test', build: 'test' })
  const serviceOn = (own: Index, counted = new Metrics({ role: 'test', build: 'test' })): Deletions =>
    new Deletions({
      index: own,
      redis,
      producer,
      identities: new IdentityResolver({
        plcUrl: world.server.url,
        http,
        cache: new MemoryIdentityCache(),
        refreshEveryMs: 0,
      }),
      xrpc: new XrpcClient(http),
      log: createLogger({ role: 'test', build: 'test', level: 'fatal', secrets: [] }),
      metrics: counted,
      pollMs: 20,
      retryMs: 20,
      shard,
      pace,
    })
  await applyBatch(index, events)
  const chain = {
    ...UNKNOWN_CHAIN,
    rev: events[0]!.rev,
    data: '\x01\x71\x12\x20'.padEnd(20, 'x'),
    exported: true,
    inactive: true,
  }
  await producer.append([], signal, { also: [moveChain(did, undefined, chain)] })
  const stopping = new AbortController()
  const running = serviceOn(index, metrics).run(stopping.signal)
  stack.defer(async () => {
    stopping.abort()
    await running
  })
  const resources = stack.move()
  return {
    index,
    serviceOn,
    redis,
    world,
    records: async () => (await db.query('select from record where did = $1', [did])).rowCount!,
    status: async () => (await db.query(`select "upstreamStatus" from actor where did = $1`, [did])).rows,
    requested: async () =>
      ((await redis.xRange(STREAM, '-', '+')) ?? []).map(({ message }) => JSON.parse(message.repo!)),
    tries: async () =>
      (await db.query<{ tries: number }>('select tries from account_deletion where did = $1', [did])).rows[0]?.tries,
    async isPutOff() {
      const [now, soon] = [0, 60_000].map((ms) => new Date(Date.now() + ms).toISOString())
      const text = 'select from account_deletion where did = $1 and "dueAt" between $2 and $3'
      return (await db.query(text, [did, now, soon])).rowCount === 1
    },
    outcomes: async (outcome) =>
      Number(new RegExp(`account_deletions_total\\{outcome="${outcome}"\\} (\\d+)`).exec(await metrics.render())![1]),
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

export const poll = { timeout: 20_000, interval: 25 }

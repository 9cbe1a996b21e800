/**
 * What a backfiller does not do, as a process: ask private addresses, outrun the indexer, let some hosts hold up
 * others, hold on when it is told to stop.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { httpServer } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import type { PdsManners } from '@sluice/sandbox/testing/fake-pds.ts'
import { hostKey, priorityStream, retryKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { deadLetterStream } from '@sluice/streams/dead-letters.ts'
import { daemonWorld, type DaemonWorld } from './testing/daemon-world.ts'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, laterOf, OUTPUT, QUEUE } from './testing/queue-view.ts'
import { records } from './testing/records.ts'

const DEAD = deadLetterStream(QUEUE)
const RANDOM = new Random(5)
const QUICK = { BACKFILLER_RETRY_MS: '10ms', BACKFILLER_RETRY_MAX_MS: '100ms' }

interface World extends DaemonWorld {
  /** Accounts at one new host, each with so many records. */
  accounts(sizes: readonly number[], manners?: Partial<PdsManners>): Promise<FakeAccount[]>
}

const test = base.extend('world', async ({ redisUrl }, { onCleanup }): Promise<World> => {
  const world = await daemonWorld(redisUrl, onCleanup)
  return {
    ...world,
    async accounts(sizes, manners) {
      const host = await world.network.addHost(manners)
      return sizes.map((size, i) => {
        const repo = new TestRepo(testDid(`${host.url} ${i}`), { key: testKey('guards') })
        repo.write(records(RANDOM, size))
        return world.network.addAccount(repo, host)
      })
    },
  }
})

const entriesOf = (accounts: readonly FakeAccount[]) =>
  accounts.map(({ did, pds, repo }) => ({ did, host: pds.host, rev: repo.rev, reason: 'listed' as const }))

test('private addresses and plain http that accounts name are not asked, and their repositories are given up by name', async ({
  world,
}) => {
  const accounts = await world.accounts([3, 3, 3])
  const [plain, address, name] = accounts
  address!.endpoint = address!.pds.url.replace('http:', 'https:')
  name!.endpoint = address!.endpoint.replace('127.0.0.1', 'localhost')
  await enqueue(world.redis, entriesOf(accounts))
  await using daemon = await world.start({ ...QUICK, ALLOW_PRIVATE_HOSTS: 'false' })
  const expected = {
    [plain!.did]: 'http-bad-url',
    [address!.did]: 'http-private-address',
    [name!.did]: 'http-private-address',
  }
  const dead = async (): Promise<Record<string, string>> => Object.fromEntries(await deadOf(world.redis))
  await expect.poll(dead, { timeout: 30_000 }).toEqual(expected)
  const buried = (reason: string) => daemon.metric('sluice_backfill_dead_letters_total', { reason })
  expect([await buried('http-bad-url'), await buried('http-private-address')]).toEqual([1, 2])
  expect(world.network.plcAsked, 'the directory is ours to name').toBeGreaterThan(0)
  expect(accounts[0]!.pds.asked).toEqual([])
})

test('D7: at the high-water mark fetching pauses, nothing is lost, and it goes on when the indexer has caught up', async ({
  world,
}) => {
  const { redis } = world
  const mark = 1_000
  const accounts = await world.accounts(Array.from({ length: 30 }, () => 600))
  await enqueue(redis, entriesOf(accounts))
  await using daemon = await world.start({ BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK: String(mark) })
  const heldBy = (by: string) => daemon.metric('sluice_backfill_held_back', { by })
  await expect.poll(() => heldBy('entries'), { timeout: 30_000 }).toBe(1)
  expect(await heldBy('memory')).toBe(0)
  await expect.poll(() => daemon.logLines.join('\n')).toContain('until the indexer has caught up')
  // Each of the four that may append at once looks before it appends one chunk.
  const mostEntries = mark + 4 * 502
  for (let look = 0; look < 20; look++) expect(await redis.xLen(OUTPUT)).toBeLessThanOrEqual(mostEntries)
  expect(await redis.xLen(QUEUE), 'most of them wait').toBeGreaterThan(20)
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    expect(await redis.xLen(OUTPUT)).toBeLessThanOrEqual(mostEntries)
    await drainTo(redis, index)
    return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, { timeout: 60_000, interval: 20 }).toBe(true)
  for (const account of accounts) expect(index.contents(account.did)).toEqual(account.contents())
})

test('D7: held back by a full Redis, it says so, and not that the indexer is behind; it goes on when there is more', async ({
  world,
}) => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  await using _ = { [Symbol.asyncDispose]: async () => redis.destroy() }
  const accounts = await world.accounts([20, 20, 20])
  // What never drains, as the chain records of a network. Made by the server: what a client sends counts twice for a
  // while.
  await redis.setRange('chains', 9 * 1024 ** 2, ' ')
  await redis.configSet('maxmemory', '14mb')
  await enqueue(redis, entriesOf(accounts))
  await using daemon = await world.start({ REDIS_URL: server.url() })
  const heldBy = (by: string) => daemon.metric('sluice_backfill_held_back', { by })
  await expect.poll(() => heldBy('memory')).toBe(1)
  expect(await heldBy('entries')).toBe(0)
  const said = (): string[] => daemon.logLines.filter((line) => line.includes('holds back'))
  await expect.poll(said).not.toEqual([])
  expect(said()[0]).toContain('raise its maxmemory')
  await redis.configSet('maxmemory', '64mb')
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, { timeout: 60_000 }).toBe(true)
})

test('D7: held back while Redis goes away, it notices all the same when there is room again', async ({ world }) => {
  await using server = await startRedis()
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  await using _ = { [Symbol.asyncDispose]: async () => redis.destroy() }
  const accounts = await world.accounts([20, 20, 20])
  await enqueue(redis, entriesOf(accounts))
  await using daemon = await world.start({
    REDIS_URL: server.url(),
    BACKFILLER_CONCURRENCY: '1',
    BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK: '10',
  })
  await expect.poll(() => daemon.metric('sluice_backfill_held_back')).toBe(1)
  // Whoever is still appending would look for room as well.
  await expect.poll(() => daemon.metric('sluice_backfill_repos_under_way')).toBe(0)
  await server.kill()
  const hasFailed = (): boolean => daemon.logLines.some((line) => line.includes('looking for room'))
  await expect.poll(hasFailed, { message: 'the fault fired' }).toBe(true)
  await server.start()
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index).catch(() => 0)
    return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, { timeout: 60_000 }).toBe(true)
})

/** How many repositories wait in the stream, in the schedule, and in the process. */
async function waitingAt(redis: Redis, daemon: Daemon) {
  return {
    queued: await redis.xLen(QUEUE),
    later: await redis.zCard(retryKey(QUEUE)),
    held: await daemon.metric('sluice_backfill_repos_waiting'),
  }
}

test('B2: hosts that close for a day hold up nobody else, and what waits for them waits in Redis', async ({
  world,
}) => {
  const { redis, network } = world
  const closing: FakeAccount[] = []
  // More repositories than a process holds.
  for (let host = 0; host < 5; host++) {
    const sizes = Array.from({ length: 250 }, () => 1)
    closing.push(...(await world.accounts(sizes, { requests: 1, windowMs: 86_400_000 })))
  }
  const closed = [...network.hosts]
  const others = await world.accounts([3, 3, 3])
  await enqueue(redis, entriesOf([...closing, ...others]))
  await using daemon = await world.start({ BACKFILLER_HOST_CONCURRENCY: '1' })
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return others.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done).toBe(true)
  const later = closing.length - closed.length
  await expect.poll(() => waitingAt(redis, daemon)).toEqual({ queued: 0, later, held: 0 })
  expect(await daemon.metric('sluice_backfill_host_waits_total', { why: 'stated' })).toBeGreaterThan(0)
  for (const { asked } of closed) expect(asked).toHaveLength(1)
})

test('B2: what was under way at a host that is closed by then waits in Redis as well', async ({ world }) => {
  const { redis, network } = world
  const [late, refused] = await world.accounts([3, 3])
  const elsewhere = await network.addHost({ requests: 1, windowMs: 86_400_000, latencyMs: 3_000 })
  await fetch(`${elsewhere.url}/xrpc/com.atproto.sync.listRepos`)
  late!.fault = { kind: 'redirect', to: elsewhere.url }
  refused!.fault = { kind: 'status', status: 429, headers: { 'retry-after': '300' }, times: 1 }
  await enqueue(redis, entriesOf([late!, refused!]))
  await using daemon = await world.start()
  await expect.poll(() => Math.min(late!.fired, refused!.fired, elsewhere.refused)).toBeGreaterThan(0)
  await expect.poll(() => waitingAt(redis, daemon)).toEqual({ queued: 0, later: 2, held: 0 })
})

test('B2: a host to which a redirect leads, and which says 429 and no time, is asked again later, and the host before it meanwhile', async ({
  world,
}) => {
  const { redis } = world
  let refused = 0
  await using limited = await httpServer((_, response) => {
    refused++
    response.writeHead(429, { 'retry-after': '0' }).end()
  })
  const accounts = await world.accounts([3, 3])
  accounts[0]!.fault = { kind: 'redirect', to: limited.url }
  await enqueue(redis, entriesOf(accounts))
  await using daemon = await world.start()
  const later = async () => [...(await laterOf(redis))].map(([did, { failure }]) => ({ did, failure }))
  await expect.poll(later).toEqual([{ did: accounts[0]!.did, failure: 'unavailable' }])
  expect(refused).toBe(1)
  // Nothing was known of it.
  await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'resynced' })).toBe(1)
})

test('B2: a DID for which alone the directory fails waits in Redis, and keeps no place from others; it arrives when it is mended', async ({
  world,
}) => {
  const { redis, network } = world
  const accounts = await world.accounts([3, 3, 3])
  const [failing] = accounts
  let isMended = false
  let refused = 0
  const passOn = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const answer = await fetch(network.plcUrl + request.url)
    response.writeHead(answer.status).end(await answer.text())
  }
  await using directory = await httpServer((request, response) => {
    if (!isMended && request.url === `/${failing!.did}`) {
      refused++
      response.writeHead(500).end()
    } else {
      void passOn(request, response)
    }
  })
  await enqueue(redis, entriesOf(accounts))
  await using daemon = await world.start({ PLC_URL: directory.url, BACKFILLER_RETRY_MS: '5s' })
  const later = async () => [...(await laterOf(redis))].map(([did, { failure }]) => ({ did, failure }))
  await expect.poll(later, { timeout: 120_000 }).toEqual([{ did: failing!.did, failure: 'unavailable' }])
  expect(refused, 'the fault fired, and was met in place first').toBeGreaterThan(1)
  expect(await daemon.metric('sluice_backfill_repos_total', { outcome: 'retry' })).toBeGreaterThan(0)
  isMended = true
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return accounts.every(({ did, repo }) => index.repo(did).rev === repo.rev)
  }
  await expect.poll(done, { timeout: 60_000 }).toBe(true)
  expect(await deadOf(redis)).toEqual(new Map())
})

test('what an operator asks for goes first', async ({ world }) => {
  const { redis } = world
  const [first, ...others] = await world.accounts(Array.from({ length: 60 }, () => 20))
  await enqueue(redis, entriesOf(others))
  const request = { did: first!.did, host: '', rev: '', reason: 'requested' }
  await redis.xAdd(priorityStream(QUEUE), '*', { repo: JSON.stringify(request) })
  await using _ = await world.start({ BACKFILLER_CONCURRENCY: '1' })
  await expect.poll(() => redis.xLen(priorityStream(QUEUE)), { timeout: 30_000, interval: 5 }).toBe(0)
  expect(await redis.xLen(QUEUE)).toBeGreaterThan(30)
})

test('where the dead letters are full, what would become one waits for the operator, and what he asks for does not wait with it', async ({
  world,
}) => {
  const { redis } = world
  // More than are looked up at once, and than there are places.
  const homeless = await world.accounts(Array.from({ length: 70 }, () => 1))
  for (const account of homeless) account.document = 'no-pds'
  const refused = (await Promise.all(Array.from({ length: 6 }, () => world.accounts([1])))).flat()
  for (const account of refused) account.fault = { kind: 'status', status: 403, error: 'Forbidden' }
  const lastTry = (accounts: readonly FakeAccount[], failure: string) =>
    entriesOf(accounts).map((entry) => ({ ...entry, attempts: 4, failure }))
  await redis.eval("for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'reason', 'bug') end", { keys: [DEAD] })
  await enqueue(redis, [...lastTry(refused, 'refused'), ...lastTry(homeless, 'identity')])
  await using _ = await world.start({ BACKFILLER_CONCURRENCY: '4' })
  await expect.poll(() => refused.filter(({ fired }) => fired > 0).length, { message: 'places' }).toBe(refused.length)
  const [asked] = await world.accounts([3])
  const request = { did: asked!.did, host: '', rev: '', reason: 'requested' }
  await redis.xAdd(priorityStream(QUEUE), '*', { repo: JSON.stringify(request) })
  const index = new IndexModel()
  const done = async (): Promise<boolean> => {
    await drainTo(redis, index)
    return index.repo(asked!.did).rev === asked!.repo.rev
  }
  await expect.poll(done, { timeout: 20_000 }).toBe(true)
  expect(await redis.xLen(QUEUE), 'none is lost').toBe(homeless.length + refused.length)
  await redis.del(DEAD)
  await expect.poll(async () => (await deadOf(redis)).size, { timeout: 30_000 }).toBe(homeless.length + refused.length)
})

test('what Redis will never understand ends the process, with a message, and is not waited for as if it were away', async ({
  world,
}) => {
  const { redis } = world
  const [account] = await world.accounts([3])
  await redis.set(hostKey(QUEUE, account!.pds.host), 'of another program')
  await enqueue(redis, entriesOf([account!]))
  await using daemon = await world.start()
  await expect.poll(() => daemon.isRunning, { timeout: 20_000 }).toBe(false)
  expect(daemon.logLines.join('\n')).toContain('another program uses the same keys')
  expect(await redis.xLen(QUEUE)).toBe(1)
})

test('D9, B2: told to stop it exits with 0 though hosts are silent; what it held and what waits is there for the next one', async ({
  world,
}) => {
  const { redis } = world
  const accounts = await world.accounts([5, 5, 5, 5])
  const [silent, failing] = accounts
  silent!.fault = { kind: 'stall', afterBytes: 100, times: 1 }
  failing!.fault = { kind: 'status', status: 503, times: 1 }
  await enqueue(redis, entriesOf(accounts))
  {
    await using daemon = await world.start({ BACKFILLER_RETRY_MS: '3s' })
    await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'retry' })).toBe(1)
    await expect.poll(() => daemon.metric('sluice_backfill_repos_under_way')).toBe(1)
    await daemon.stop({ graceMs: 10_000 })
  }
  const left = await laterOf(redis)
  expect(new Set(left.keys())).toEqual(new Set([silent!.did, failing!.did]))
  expect(left.get(failing!.did)).toMatchObject({ failure: 'unavailable' })
  expect(silent!.fired).toBe(1)

  await using _ = await world.start()
  const index = new IndexModel()
  const done = async (): Promise<number> => {
    await drainTo(redis, index)
    return (await laterOf(redis)).size
  }
  await expect.poll(done, { timeout: 30_000 }).toBe(0)
  for (const account of accounts) expect(index.contents(account.did)).toEqual(account.contents())
})

/** B2: did:webs that a host makes up, below its own domain, neither stay for ever nor come back all at once. */
import { createHash } from 'node:crypto'
import { httpServer, type Handler } from '@sluice/atproto/testing/servers.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { hostKey, hostsKey, madeUpKey, priorityStream, retryKey } from '@sluice/streams/backfill-queue.ts'
import { chainAddress, encodeChain, readChains, UNKNOWN_CHAIN } from '@sluice/streams/chain-state.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { listDeadLetters } from '@sluice/streams/testing/list-letters.ts'
import { deadOf, enqueue, laterOf, OUTPUT, QUEUE } from './testing/queue-view.ts'

/** Its document, of which it is the PDS as well. */
const atItself =
  (answer: Handler, pds?: string): Handler =>
  (request, response) => {
    if (request.url!.startsWith('/xrpc/')) return answer(request, response)
    const port = request.socket.localPort
    const serviceEndpoint = pds ?? `http://127.0.0.1:${port}`
    const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint }
    response.end(JSON.stringify({ id: `did:web:localhost%3A${port}`, service: [service] }))
  }

const WAIT = { timeout: 30_000, interval: 50 }

function env(redisUrl: string) {
  const waits = { BACKFILLER_RETRY_MS: '10ms', BACKFILLER_RETRY_MAX_MS: '50ms' }
  return { REDIS_URL: redisUrl, PLC_URL: 'http://127.0.0.1:1', ALLOW_PRIVATE_HOSTS: 'true', BACKFILLER_CONSUMER: 'one', ...waits } // prettier-ignore
}

/** Accounts whose document is at hosts of their own, all of one owner. */
async function dids(stack: AsyncDisposableStack, count: number, handler: Handler): Promise<string[]> {
  const servers = await Promise.all(Array.from({ length: count }, () => httpServer(handler)))
  return servers.map((server) => `did:web:localhost%3A${new URL(stack.use(server).url).port}`)
}

test('one whose host never says who it is, and that only a host lists, is passed over and forgotten after eight tries; one that a relay lists is not', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const [madeUp, listed] = (await dids(stack, 2, (_, response) => response.writeHead(503).end())) as [string, string]
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const { key, field } = chainAddress(madeUp)
  await redis.hSet(key, field, encodeChain({ ...UNKNOWN_CHAIN, resync: { need: '', askedAt: 1 } }))
  await enqueue(redis, [
    { did: madeUp, host: 'pds.example', rev: '', reason: 'listed' },
    { did: listed, host: 'relay.example', rev: '3kzzzzzzzzzz2', reason: 'listed' },
  ])
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' }), WAIT).toBe(1)
  expect(await readChains(redis, [madeUp])).toEqual([undefined])
  const attempts = async (): Promise<number> => {
    const waiting = await redis.zRange(retryKey(QUEUE), 0, -1)
    return Math.max(0, ...waiting.map((entry) => (JSON.parse(entry) as BackfillEvent).attempts ?? 0))
  }
  await expect.poll(attempts, WAIT).toBeGreaterThan(8)
  expect([...(await laterOf(redis)).keys()]).toEqual([listed])
  expect(await deadOf(redis)).toEqual(new Map())
})

test('one whose PDS was down, and whose document fails then, is not passed over for that', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  const [did] = (await dids(stack, 1, (_, response) => response.writeHead(503).end())) as [string]
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await enqueue(redis, [{ did, host: 'pds.example', rev: '', reason: 'listed', attempts: 7, failure: 'unavailable' }])
  const hours = { BACKFILLER_RETRY_MS: '1h', BACKFILLER_RETRY_MAX_MS: '1h' }
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: { ...env(redisUrl), ...hours } }))
  const left = async () => [
    await daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' }),
    ...(await redis.zRange(retryKey(QUEUE), 0, -1)).map((entry) => JSON.parse(entry) as BackfillEvent),
  ]
  await expect.poll(left, WAIT).toMatchObject([0, { did, attempts: 1, failure: 'no-document' }])
})

test('those that answer, and never have a repository, become no dead letters and are not kept; one of which more is known does', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const asked = new Map<string, number>()
  /** What its document names as its PDS. */
  const start = async (pdsOf: (url: string) => string | undefined): Promise<string> => {
    const server = stack.use(
      await httpServer((request, response) => {
        if (request.url!.startsWith('/xrpc/')) {
          asked.set(did, (asked.get(did) ?? 0) + 1)
          return void response.writeHead(403).end('{"error":"Forbidden"}')
        }
        const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: pdsOf(server.url) }
        response.end(JSON.stringify({ id: did, service: [service] }))
      }),
    )
    const did = `did:web:localhost%3A${new URL(server.url).port}`
    return did
  }
  const homeless = await start(() => undefined)
  const refused = await start((url) => url)
  const silent = await start(() => 'http://127.0.0.1:1')
  const known = await start(() => undefined)
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const list = async (all: readonly string[], exported: boolean): Promise<void> => {
    for (const { key, field } of all.map(chainAddress))
      await redis.hSet(key, field, encodeChain({ ...UNKNOWN_CHAIN, exported, resync: { need: '', askedAt: 1 } }))
    await enqueue(
      redis,
      // As after a day and a half.
      all.map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed', attempts: 12, failure: 'unavailable' })),
    )
  }
  const madeUp = [homeless, refused, silent]
  await list(madeUp, false)
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  await expect.poll(() => daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' }), WAIT).toBe(3)
  expect(asked).toEqual(new Map([[refused, 5]]))
  expect(await readChains(redis, madeUp)).toEqual(madeUp.map(() => undefined))
  await list([known], true)
  await expect.poll(() => deadOf(redis), WAIT).toEqual(new Map([[known, 'identity-no-pds']]))
  expect(await laterOf(redis)).toEqual(new Map())
})

test('they have half of the room for what waits: one that finds none is passed over, and one that a relay lists, or of which more is known, is not', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const closed = stack.use(await httpServer((_, response) => response.writeHead(429, { 'retry-after': '300' }).end()))
  const all = await dids(
    stack,
    6,
    atItself((_, response) => response.end(), closed.url),
  )
  const broken = await dids(stack, 1, (_, response) => response.writeHead(503).end())
  const [listed, known, ...madeUp] = [...all, ...broken] as [string, string, ...string[]]
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const { key, field } = chainAddress(known)
  await redis.hSet(key, field, encodeChain({ ...UNKNOWN_CHAIN, exported: true }))
  const waiting = ['did:plc:one', 'did:plc:two'].map((did) => JSON.stringify({ did, host: 'a.example', rev: '' }))
  await redis.zAdd(
    retryKey(QUEUE),
    waiting.map((value) => ({ value, score: Date.now() + 86_400_000 })),
  )
  await enqueue(redis, [
    ...[...madeUp, known].map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed' as const })),
    { did: listed, host: 'relay.example', rev: '3kzzzzzzzzzz2', reason: 'listed' },
  ])
  const hours = { BACKFILLER_RETRY_MS: '1h', BACKFILLER_RETRY_MAX_MS: '1h' }
  const daemon = stack.use(
    await startDaemon({ role: 'backfiller', env: { ...env(redisUrl), ...hours, BACKFILLER_WAITING_MAX: '4' } }),
  )
  const noAccount = () => daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' })
  await expect.poll(noAccount, { ...WAIT, timeout: 60_000 }).toBe(madeUp.length)
  const later = async () => new Set((await laterOf(redis)).keys())
  await expect.poll(later, WAIT).toEqual(new Set([listed, known, 'did:plc:one', 'did:plc:two']))
  expect(await deadOf(redis)).toEqual(new Map())
})

test('a host of which nothing but such accounts is wanted is forgotten soon', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  const broken = atItself((_, response) => response.writeHead(503).end())
  const [did] = (await dids(stack, 1, broken)) as [string]
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await enqueue(redis, [{ did, host: 'pds.example', rev: '', reason: 'listed' }])
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  await expect.poll(() => daemon.metric('sluice_backfill_retries_total', { class: 'unavailable' }), WAIT).toBeGreaterThan(2) // prettier-ignore
  const left = await redis.pTTL(hostKey(QUEUE, `127.0.0.1:${did.split('%3A')[1]}`))
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(86_400_000)
  expect(await redis.exists(hostsKey(QUEUE))).toBe(0)
})

test('the status of one is kept, like that of any account, until its owner has many; then it is passed over, and leaves nothing', async ({
  redisUrl,
}) => {
  await using stack = new AsyncDisposableStack()
  const deactivated = atItself((_, response) => response.writeHead(400).end('{"error":"RepoDeactivated"}'))
  const [first, known, ...others] = (await dids(stack, 4, deactivated)) as [string, string, string, string]
  const ended = await dids(stack, 1, (_, response) => response.writeHead(410).end())
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const list = async (all: readonly string[], exported = false): Promise<void> => {
    for (const { key, field } of all.map(chainAddress))
      await redis.hSet(key, field, encodeChain({ ...UNKNOWN_CHAIN, exported, resync: { need: '', askedAt: 1 } }))
    await enqueue(
      redis,
      all.map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed' })),
    )
  }
  const inactive = async (...all: string[]) => (await readChains(redis, all)).map((chain) => chain?.record.inactive)
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  const count = (outcome: string) => daemon.metric('sluice_backfill_repos_total', { outcome })
  const part = createHash('sha1').update('grains localhost').digest('hex').slice(0, 3)
  await redis.hSet(madeUpKey(QUEUE), { salt: 'grains ', [part]: 999 })
  await list([first])
  await expect.poll(() => count('account'), WAIT).toBe(1)
  expect(await inactive(first)).toEqual([true])
  await list([known], true)
  await list([...others, ...ended])
  await expect.poll(async () => [await count('account'), await count('no-account')], WAIT).toEqual([2, 3])
  expect(await inactive(known, ...others, ...ended)).toEqual([true, undefined, undefined, undefined])
  const told = ((await redis.xRange(OUTPUT, '-', '+')) ?? []).map(({ message }) => (JSON.parse(message.event!) as { did: string }).did) // prettier-ignore
  expect(new Set(told)).toEqual(new Set([first, known]))
  expect(await redis.hGetAll(madeUpKey(QUEUE))).toEqual({ salt: 'grains ', [part]: '1003' })
  // Nor are their hosts remembered for a month.
  expect(await redis.zRange(hostsKey(QUEUE), 0, -1)).toEqual([])
})

test('those of one owner that are turned away come back one after the other', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  const open: (() => void)[] = []
  const all = await dids(stack, 12, (_, response) => void open.push(() => response.writeHead(404).end()))
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await enqueue(
    redis,
    all.map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed' })),
  )
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  // Two are asked, and one waits.
  await expect.poll(() => daemon.metric('sluice_backfill_retries_total', { class: 'crowded' }), WAIT).toBe(9)
  expect(open.length).toBe(2)
  const dues = (await redis.zRangeWithScores(retryKey(QUEUE), 0, -1)).map(({ score }) => score)
  expect(dues.length).toBe(9)
  for (const [i, due] of dues.entries()) if (i > 0) expect(due - dues[i - 1]!).toBeGreaterThanOrEqual(500)
  // It is forgotten with its last turn.
  const left = await redis.pTTL(hostKey(QUEUE, 'did:web:localhost'))
  expect(left).toBeGreaterThan(0)
  expect(left).toBeLessThan(60_000)
  const done = async (): Promise<number> => {
    for (const answer of open.splice(0)) answer()
    return await daemon.metric('sluice_backfill_repos_total', { outcome: 'no-account' })
  }
  await expect.poll(done, { ...WAIT, timeout: 120_000 }).toBe(12)
})

test('those of one owner whose hosts do not answer are not looked up for a minute', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  let asked = 0
  const all = await dids(stack, 12, () => void asked++)
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await enqueue(
    redis,
    all.map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed' })),
  )
  const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
  // The one that waits is turned away when the two that are asked are late.
  const turnedAway = () => daemon.metric('sluice_backfill_retries_total', { class: 'crowded' })
  await expect.poll(turnedAway, WAIT).toBeGreaterThanOrEqual(10)
  expect(asked).toBeGreaterThanOrEqual(2)
  const lastDue = Math.max(...(await redis.zRangeWithScores(retryKey(QUEUE), 0, -1)).map(({ score }) => score))
  expect(lastDue - Date.now()).toBeGreaterThan(45_000)
})

const deactivated = atItself((_, response) => response.writeHead(400).end('{"error":"RepoDeactivated"}'))

test.for<[string, Handler, string]>([
  ['when it is looked up', (_, response) => response.writeHead(404).end(), 'identity-missing'],
  ['when it is looked up anew, after what its host has said', deactivated, 'a status'],
])(
  'what an operator asks for does not wait for what others have asked for of its owner, %s',
  async ([, handler, end], { redisUrl }) => {
    await using stack = new AsyncDisposableStack()
    let asked = 0
    const silent = await dids(stack, 12, () => void asked++)
    const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
    await enqueue(
      redis,
      silent.map((did) => ({ did, host: 'pds.example', rev: '', reason: 'listed' })),
    )
    const daemon = stack.use(await startDaemon({ role: 'backfiller', env: env(redisUrl) }))
    await expect.poll(() => daemon.metric('sluice_backfill_retries_total', { class: 'crowded' }), WAIT).toBe(9)
    expect(asked).toBe(2)
    const [wanted] = (await dids(stack, 1, handler)) as [string]
    const request = { did: wanted, host: '', rev: '', reason: 'requested' }
    await redis.xAdd(priorityStream(QUEUE), '*', { repo: JSON.stringify(request) })
    const came = async (): Promise<string | undefined> => {
      if ((await redis.exists(hostKey(priorityStream(QUEUE), 'did:web:localhost'))) > 0) return 'turned away'
      if ((await redis.xLen(OUTPUT)) > 0) return 'a status'
      return (await listDeadLetters(redis, priorityStream(QUEUE), 1))[0]?.reason
    }
    await expect.poll(came, WAIT).toBeDefined()
    expect(await came()).toBe(end)
  },
)

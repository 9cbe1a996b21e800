/**
 * Whoever has a wildcard domain has any number of hosts: their did:webs hold few places, and keep nobody else's
 * waiting.
 */
import type { ServerResponse } from 'node:http'
import { afterAll, expect, test } from 'vitest'
import { HttpClient } from './http.ts'
import { MemoryIdentityCache } from './identity-cache.ts'
import { IdentityResolver, type IdentityResolverOptions } from './identity-resolver.ts'
import { httpServer, json } from './testing/servers.ts'
import { CrowdedError } from './throttle.ts'

const client = new HttpClient({ allowPrivate: true, connectionsPerHost: 1_000 })
afterAll(() => client.close())

const document = (response: ServerResponse, did: string): void => json(response, { id: did })
/** For whatever is not answered: longer than the test. */
const timeoutMs = 600_000

/** Every name leads to one server, whose hosts below `evil.example` and its like accept and never answer. */
async function world(options: Partial<IdentityResolverOptions> = {}) {
  const silent = new Map<string, ServerResponse>()
  const server = await httpServer((request, response) => {
    const host = request.url!.split('/')[1]!
    if (host.includes('evil')) silent.set(host, response)
    else document(response, `did:web:${host}`)
  })
  const http: Pick<HttpClient, 'get'> = {
    get(url, limits) {
      const { host, pathname } = new URL(url)
      return client.get(`${server.url}/${host}${pathname}`, limits)
    },
  }
  const resolver = new IdentityResolver({
    plcUrl: 'http://127.0.0.1:1',
    http,
    cache: new MemoryIdentityCache(),
    timeoutMs,
    ...options,
  })
  const refusals: unknown[] = []
  return {
    silent,
    resolver,
    refusals,
    requests: () => server.requests,
    /** What becomes of these accounts, as soon as all are known. */
    async found(...dids: string[]): Promise<unknown[]> {
      const found: unknown[] = []
      for (const did of dids) void resolver.resolve(did).then((resolution) => found.push(resolution))
      await expect.poll(() => found.length).toBe(dids.length)
      return found
    },
    /** Asks for so many accounts, each at a host of its own below the domain. */
    ask(domain: string, count: number): void {
      for (let i = 0; i < count; i++)
        resolver.resolve(`did:web:h${i}.${domain}`).catch((error: unknown) => refusals.push(error))
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

test('any number of silent hosts of one domain hold a few places of all, and the others are asked', async () => {
  await using it = await world()
  it.ask('evil.example', 300)
  await expect.poll(() => it.silent.size).toBeGreaterThan(3)
  const others = ['alice.example', 'bob.test', 'carol.deep.example.org'].map((host) => `did:web:${host}`)
  const found = await it.found(...others)
  expect(new Set(found)).toEqual(new Set(others.map((did) => ({ status: 'found', identity: { did } }))))
  expect(it.silent.size).toBe(4)
  expect(it.refusals).toEqual([])
})

test('of many such domains each has its turn, and whoever comes after them too', async () => {
  await using it = await world({ webConcurrency: 8 })
  for (let i = 0; i < 20; i++) it.ask(`evil${i}.example`, 50)
  await expect.poll(() => it.silent.size).toBe(8)
  const found = it.found('did:web:alice.example')
  const answered = new Set<string>()
  const domains = (): Set<string> => new Set([...it.silent.keys()].map((host) => host.slice(host.indexOf('.') + 1)))
  // Each place that is given back goes to the next domain: after twelve of them it is Alice's turn.
  for (let i = 0; i < 13; i++) {
    const [host, response] = [...it.silent].find(([name]) => !answered.has(name))!
    answered.add(host)
    document(response, `did:web:${host}`)
    await expect.poll(() => it.silent.size + Number(i === 12)).toBe(9 + i)
  }
  expect(await found).toMatchObject([{ status: 'found' }])
  expect(domains().size).toBe(20)
})

test('what waits for them does not take the room of others', async () => {
  await using it = await world({ webWaiting: 64 })
  it.ask('evil.example', 300)
  await expect.poll(() => it.refusals.length).toBeGreaterThan(250)
  for (const error of it.refusals) expect(error).toBeInstanceOf(CrowdedError)
  expect(await it.found('did:web:alice.example')).toMatchObject([{ status: 'found' }])
  expect(it.silent.size).toBe(4)
})

test('eight silent domains that fill all places and all room for waiting have a few of them from then on, if they are turned away: others are asked', async () => {
  await using it = await world({ webConcurrency: 16, webWaiting: 8, webSlowTurnedAway: true, timeoutMs: 4_000 })
  const asked = async (): Promise<string> => {
    for (let i = 0; i < 8; i++) it.ask(`evil${i}.example`, 10)
    return await it.resolver.resolve('did:web:alice.example').then(
      ({ status }) => status,
      (error: Error) => error.name,
    )
  }
  expect(await asked()).toBe('CrowdedError')
  await expect.poll(() => it.silent.size).toBe(16)
  await expect.poll(asked, { timeout: 20_000 }).toBe('found')
  // It is told when to come again.
  expect(it.refusals).toContainEqual(expect.objectContaining({ name: 'CrowdedError', retryAfterMs: 60_000 }))
})

test('what is urgent waits for nothing else of its owner', async () => {
  await using it = await world({ webConcurrency: 16, webWaiting: 16 })
  it.ask('evil.example', 300)
  await expect.poll(() => it.refusals.length).toBeGreaterThan(250)
  const asked = it.resolver.resolve('did:web:mine.evil.example', undefined, { urgent: true })
  await expect.poll(() => [...it.silent.keys()]).toContain('mine.evil.example')
  document(it.silent.get('mine.evil.example')!, 'did:web:mine.evil.example')
  expect(await asked).toMatchObject({ status: 'found' })
  expect(it.silent.size).toBe(3)
})

test('nor what is to be known anew and is urgent', async () => {
  await using it = await world({ webConcurrency: 16, webWaiting: 16, refreshEveryMs: 0 })
  it.ask('evil.example', 300)
  await expect.poll(() => it.refusals.length).toBeGreaterThan(250)
  const asked = it.resolver.refresh('did:web:mine.evil.example', undefined, { urgent: true })
  await expect.poll(() => [...it.silent.keys()]).toContain('mine.evil.example')
  document(it.silent.get('mine.evil.example')!, 'did:web:mine.evil.example')
  expect(await asked).toMatchObject({ resolution: { status: 'found' }, refreshed: true })
})

test.each(['resolve', 'refresh'] as const)(
  'what waits already, and is urgent now (%s), waits for nothing else of its owner, and is asked for once',
  async (how) => {
    await using it = await world({ webConcurrency: 16, webWaiting: 16, refreshEveryMs: 0 })
    it.ask('evil.example', 300)
    await expect.poll(() => it.refusals.length).toBeGreaterThan(250)
    // Two are asked, and the third is the only one that may wait.
    await expect.poll(() => [...it.silent.keys()].toSorted()).toEqual(['h0.evil.example', 'h1.evil.example'])
    const wanted = 'h2.evil.example'
    const waiting = it.resolver.resolve(`did:web:${wanted}`)
    const asked = it.resolver[how](`did:web:${wanted}`, undefined, { urgent: true })
    await expect.poll(() => [...it.silent.keys()]).toContain(wanted)
    document(it.silent.get(wanted)!, `did:web:${wanted}`)
    const found = { status: 'found', identity: { did: `did:web:${wanted}` } }
    expect(await waiting).toEqual(found)
    expect(await asked).toEqual(how === 'resolve' ? found : { resolution: found, refreshed: true })
    expect(it.requests().filter((path) => path.includes(wanted)).length).toBe(1)
  },
)

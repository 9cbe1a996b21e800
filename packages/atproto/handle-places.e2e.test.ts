/**
 * Whoever has a wildcard domain has any number of handles: those that nobody answers for hold few places, and keep
 * nobody else's waiting, however many these are.
 */
import type { ServerResponse } from 'node:http'
import { afterAll, expect, test } from 'vitest'
import { HandleResolver } from './handle-resolver.ts'
import { HttpClient } from './http.ts'
import { dnsServer } from './testing/dns-server.ts'
import { httpServer } from './testing/servers.ts'
import { CrowdedError } from './throttle.ts'

const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'
const client = new HttpClient({ allowPrivate: true, connectionsPerHost: 1_000 })
afterAll(() => client.close())

/** Every name leads to one server, which answers for all but those below a domain of evil. */
async function world(concurrency: number) {
  await using stack = new AsyncDisposableStack()
  const silent = new Map<string, ServerResponse>()
  const dns = stack.use(await dnsServer(() => 'NXDOMAIN'))
  const server = stack.use(
    await httpServer((request, response) => {
      const host = request.url!.split('/')[1]!
      if (host.includes('evil')) silent.set(host, response)
      else response.end(DID)
    }),
  )
  const http: Pick<HttpClient, 'get'> = {
    get(url, options) {
      const { host, pathname } = new URL(url)
      return client.get(`${server.url}/${host}${pathname}`, options)
    },
  }
  // Nothing that is silent ends within the test.
  const timeoutMs = 600_000
  const resolver = new HandleResolver({ http, nameservers: [dns.address], timeoutMs, concurrency, perSecond: 10_000 })
  const resources = stack.move()
  const refusals: unknown[] = []
  return {
    resolver,
    silent,
    refusals,
    ask(domain: string, count: number): void {
      for (let i = 0; i < count; i++)
        resolver.resolve(`h${i}.${domain}`).catch((error: unknown) => refusals.push(error))
    },
    [Symbol.asyncDispose]: () => resources.disposeAsync(),
  }
}

test('as many handles as there are places, of one domain and without an answer, leave places to the others; then it has few', async () => {
  await using it = await world(32)
  it.ask('evil.com', 100)
  await expect.poll(() => it.silent.size).toBe(16)
  // Those of the honest majority are below one domain as well.
  const honest = Array.from({ length: 200 }, (_, i) => it.resolver.resolve(`u${i}.bsky.social`))
  expect(new Set(await Promise.all(honest))).toEqual(new Set([DID]))
  await expect.poll(() => it.refusals.length, { timeout: 20_000 }).toBe(84)
  for (const error of it.refusals) expect(error).toBeInstanceOf(CrowdedError)
  it.ask('evil.com', 100)
  await expect.poll(() => it.refusals.length).toBe(184)
  for (const [host, response] of [...it.silent].slice(0, 15)) {
    it.silent.delete(host)
    response.end(DID)
  }
  it.ask('other.evil.com', 100)
  // It has one, and may have two.
  await expect.poll(() => it.silent.size + it.refusals.length).toBeGreaterThan(284)
  expect(it.silent.size).toBeLessThanOrEqual(2)
  expect(await it.resolver.resolve('alice.org')).toBe(DID)
})

test('many such domains leave a place to whoever comes after them', async () => {
  await using it = await world(32)
  for (let i = 0; i < 4; i++) it.ask(`evil${i}.com`, 100)
  await expect.poll(() => it.silent.size).toBe(16 + 8 + 4 + 2)
  expect(await it.resolver.resolve('alice.bsky.social')).toBe(DID)
})

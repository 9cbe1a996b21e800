import { afterAll, describe, expect, test } from 'vitest'
import { TransientError } from '@sluice/runtime/errors.ts'
import { HandleResolver } from './handle-resolver.ts'
import { HttpClient } from './http.ts'
import { dnsServer, type DnsAnswer } from './testing/dns-server.ts'
import { drip, httpServer, json, type Handler } from './testing/servers.ts'

const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'
const OTHER = 'did:plc:ewvi7nxzyoun6zhxrhs64oiz'
const client = new HttpClient({ allowPrivate: true })
afterAll(() => client.close())

/** A resolver whose names are those of `answer`, and for which every https host is the one of `handler`. */
async function network(answer: (name: string) => DnsAnswer, handler: Handler, askPdsFor: string[] = []) {
  const dns = await dnsServer(answer)
  const server = await httpServer(handler)
  const hosts: string[] = []
  const http: Pick<HttpClient, 'get'> = {
    get(url, options) {
      const { host, pathname, search } = new URL(url)
      hosts.push(host)
      return client.get(`${server.url}${pathname}${search}`, options)
    },
  }
  const resolver = new HandleResolver({ http, nameservers: [dns.address], timeoutMs: 200, askPdsFor })
  return {
    resolver,
    server,
    hosts,
    dns,
    async [Symbol.asyncDispose]() {
      await dns[Symbol.asyncDispose]()
      await server[Symbol.asyncDispose]()
    },
  }
}

const nobody: Handler = (_, response) => response.writeHead(404).end()
const says =
  (text: string): Handler =>
  (_, response) =>
    response.end(text)
const outage: Handler = (_, response) => response.writeHead(503).end()

/** What says no, and never comes to the end of it. */
const dripping: Handler = (_, response) => drip(response, 404)

describe('a handle leads to a DID', () => {
  test.each<[string, DnsAnswer, Handler, string | undefined]>([
    ['by DNS', [`did=${DID}`], nobody, DID],
    ['by DNS, among other texts', ['v=spf1 -all', `did=${DID}`], nobody, DID],
    ['by HTTPS', 'NXDOMAIN', says(`${DID}\n`), DID],
    ['by HTTPS, when DNS has no such text', ['v=spf1 -all'], says(DID), DID],
    ['by HTTPS, while DNS is out of order', 'SERVFAIL', says(DID), DID],
    ['by DNS before HTTPS', [`did=${DID}`], says(OTHER), DID],
    ['not when DNS names two', [`did=${DID}`, `did=${OTHER}`], nobody, undefined],
    ['not when what is named is no DID', ['did=nonsense'], nobody, undefined],
    ['not when HTTPS answers something else', 'NXDOMAIN', says('<!doctype html>'), undefined],
    ['not when HTTPS answers too much', 'NXDOMAIN', says('x'.repeat(10_000)), undefined],
    ['not when nobody knows it', 'NXDOMAIN', nobody, undefined],
    ['not when its host does not know it, and says so without end', 'NXDOMAIN', dripping, undefined],
  ])(
    '%s',
    async (_, answer, handler, expected) => {
      await using net = await network(() => answer, handler)
      expect(await net.resolver.resolve('alice.example.com')).toBe(expected)
      expect(net.dns.questions).toContain('_atproto.alice.example.com')
    },
    60_000,
  )

  test.each<[string, DnsAnswer, Handler]>([
    ['DNS does not answer and HTTPS does not know it', 'silence', nobody],
    ['DNS is out of order and HTTPS does not know it', 'SERVFAIL', nobody],
    ['DNS does not know it and HTTPS is out of order', 'NXDOMAIN', outage],
  ])('could not be checked: %s', async (_, answer, handler) => {
    await using net = await network(() => answer, handler)
    await expect(net.resolver.resolve('alice.example.com')).rejects.toThrow(TransientError)
  })

  test('could not be checked: its name is too long for DNS and HTTPS does not know it', async () => {
    const longest = `${'a.'.repeat(125)}com`
    await using net = await network(() => 'NXDOMAIN', nobody)
    await expect(net.resolver.resolve(longest)).rejects.toThrow(TransientError)
    expect([net.dns.questions, net.hosts]).toEqual([[], [longest]])
  })

  test('a fault of ours is told as what it is, and not as a silence of DNS', async () => {
    const resolver = new HandleResolver({ http: client, nameservers: ['no address'] })
    const failure = await resolver.resolve('alice.example.com').catch((error: unknown) => error)
    expect(failure).toMatchObject({ name: 'TypeError', code: 'ERR_INVALID_IP_ADDRESS' })
  })

  test.each<DnsAnswer>(['NXDOMAIN', { addresses: [] }])('not when there is no such host: %j', async (answer) => {
    await using dns = await dnsServer(() => answer)
    const http = new HttpClient({ nameservers: [dns.address] })
    const resolver = new HandleResolver({ http, nameservers: [dns.address] })
    expect(await resolver.resolve('alice.example.com')).toBeUndefined()
    expect(new Set(dns.questions)).toEqual(new Set(['_atproto.alice.example.com', 'alice.example.com']))
    await http.close()
  })

  test.each(['alice.local', 'alice.onion', 'a.b.invalid', 'handle.invalid', 'nodots', 'a b.com', ''])(
    '%s is never asked for',
    async (handle) => {
      await using net = await network(() => [`did=${DID}`], says(DID))
      expect(await net.resolver.resolve(handle)).toBeUndefined()
      expect([...net.dns.questions, ...net.hosts]).toEqual([])
    },
  )
})

describe('a claimed handle is verified in both directions', () => {
  test('it is that of the account which it leads to, and of no other', async () => {
    await using net = await network(() => [`did=${DID}`], nobody)
    expect(await net.resolver.verify({ did: DID, handle: 'alice.example.com' })).toBe('alice.example.com')
    expect(await net.resolver.verify({ did: OTHER, handle: 'alice.example.com' })).toBeUndefined()
    expect(await net.resolver.verify({ did: DID })).toBeUndefined()
  })

  test('in a test network the PDS is asked, for the endings that are configured and for no others', async () => {
    await using net = await network(
      () => 'NXDOMAIN',
      (request, response) => {
        if (request.url === '/xrpc/com.atproto.identity.resolveHandle?handle=alice.test') json(response, { did: DID })
        else json(response, { error: 'InvalidRequest', message: 'Unable to resolve handle' }, 400)
      },
      ['.test'],
    )
    const pds = 'https://pds.example.com'
    expect(await net.resolver.verify({ did: DID, handle: 'alice.test', pds })).toBe('alice.test')
    expect(await net.resolver.verify({ did: OTHER, handle: 'alice.test', pds })).toBeUndefined()
    expect(await net.resolver.verify({ did: DID, handle: 'bob.test', pds })).toBeUndefined()
    expect(await net.resolver.verify({ did: DID, handle: 'alice.test' })).toBeUndefined()
    expect(net.hosts).toEqual(Array.from({ length: 3 }, () => 'pds.example.com'))
    expect(await net.resolver.verify({ did: DID, handle: 'alice.example.com', pds })).toBeUndefined()
    expect(net.hosts.at(-1)).toBe('alice.example.com')
  })
})

describe('a host that wants to be left alone is left alone', () => {
  const limited: Handler = (_, response) => response.writeHead(429, { 'retry-after': '40' }).end()

  test('for as long as it says, and no other host', async () => {
    await using net = await network(() => 'NXDOMAIN', limited)
    const failure = await net.resolver.resolve('alice.example.com').catch((error: unknown) => error)
    expect(failure).toMatchObject({ name: 'TransientError', retryAfterMs: 40_000 })
    const asked = net.hosts.length
    const again = await net.resolver.resolve('alice.example.com').catch((error: unknown) => error)
    expect(again).toBeInstanceOf(TransientError)
    expect((again as TransientError).retryAfterMs).toBeGreaterThan(30_000)
    expect([net.hosts.length, net.dns.questions.length]).toEqual([asked, 1])
    await net.resolver.resolve('carol.example.org').catch(() => undefined)
    expect(net.hosts.length).toBe(asked + 1)
  })
})

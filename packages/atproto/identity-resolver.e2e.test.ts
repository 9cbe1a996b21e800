import type { IncomingMessage, ServerResponse } from 'node:http'
import { afterAll, describe, expect, test } from 'vitest'
import { TransientError } from '@sluice/runtime/errors.ts'
import { HttpClient } from './http.ts'
import { MemoryIdentityCache } from './identity-cache.ts'
import { IdentityResolver, type IdentityResolverOptions } from './identity-resolver.ts'
import { testKey } from './testing/keys.ts'
import { drip, httpServer, json, type Handler } from './testing/servers.ts'

const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'
/**
 * The two things that a directory says of a DID without a document:
 * https://web.plc.directory/api/redoc#operation/ResolveDid
 */
const NOT_REGISTERED = { message: `DID not registered: ${DID}` }
const NOT_AVAILABLE = { message: `DID not available: ${DID}` }
const http = new HttpClient({ allowPrivate: true })
afterAll(() => http.close())

function document(did: string, handle = 'alice.test') {
  const publicKeyMultibase = testKey(handle).multibase
  return {
    id: did,
    alsoKnownAs: [`at://${handle}`],
    verificationMethod: [{ id: `${did}#atproto`, type: 'Multikey', controller: did, publicKeyMultibase }],
  }
}

const found = (did: string, handle = 'alice.test') => ({
  status: 'found',
  identity: { did, handle, signingKey: testKey(handle).did },
})

async function directory(handler: Handler, options: Partial<IdentityResolverOptions> = {}) {
  const server = await httpServer(handler)
  const resolver = new IdentityResolver({ plcUrl: server.url, http, cache: new MemoryIdentityCache(), ...options })
  return { server, resolver, [Symbol.asyncDispose]: () => server[Symbol.asyncDispose]() }
}

/** Answers that are given one after the other; the last one again and again. */
function answers(...list: ((response: ServerResponse, request: IncomingMessage) => void)[]): Handler {
  return (request, response) => (list.length > 1 ? list.shift()! : list[0]!)(response, request)
}

describe('what a directory says', () => {
  test('is the identity, asked for once and then known', async () => {
    await using plc = await directory((_, response) => json(response, document(DID)))
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
    expect(plc.server.requests).toEqual([`/${DID}`])
  })

  test.each([
    ['missing', 'as documented', (response: ServerResponse) => json(response, NOT_REGISTERED, 404)],
    ['tombstoned', 'as documented', (response: ServerResponse) => json(response, NOT_AVAILABLE, 410)],
    ['tombstoned', 'as the reference server says it', (response: ServerResponse) => json(response, NOT_AVAILABLE, 404)],
    ['missing', 'as a mirror says it', (response: ServerResponse) => response.writeHead(404).end('unknown DID\n')],
    ['tombstoned', 'as a mirror says it', (response: ServerResponse) => response.writeHead(404).end('DID deleted\n')],
    [
      'invalid',
      'since its document is too large',
      (response: ServerResponse) => response.end(Buffer.alloc(600_000, 'x')),
    ],
  ])('is that it is %s, %s, which is known for a while, and then asked again', async (status, _, answer) => {
    let now = 0
    await using plc = await directory(
      answers(answer, (response) => json(response, document(DID))),
      { negativeMs: 1_000, now: () => now },
    )
    expect(await plc.resolver.resolve(DID)).toMatchObject({ status })
    now = 999
    expect(await plc.resolver.resolve(DID)).toMatchObject({ status })
    expect(plc.server.requests).toHaveLength(1)
    now = 1_000
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
  })

  test('is a document whose parts may be odd: what is wrong of it is left out', async () => {
    const odd = { ...document(DID), alsoKnownAs: { at: 'alice.test' }, service: [null, 'pds'] }
    await using plc = await directory((_, response) => json(response, odd))
    const identity = { did: DID, signingKey: testKey('alice.test').did }
    expect(await plc.resolver.resolve(DID)).toEqual({ status: 'found', identity })
  })

  test.each([
    ['answers 500', (response: ServerResponse) => json(response, {}, 500)],
    ['answers 429', (response: ServerResponse) => json(response, {}, 429, { 'retry-after': '0' })],
    ['breaks off', (response: ServerResponse) => response.destroy()],
    ['does not answer', () => undefined],
  ])('is nothing at all when it %s: it could not be checked, and is asked again', async (_, answer) => {
    await using plc = await directory(
      answers(answer, (response) => json(response, document(DID))),
      { timeoutMs: 200 },
    )
    await expect(plc.resolver.resolve(DID)).rejects.toThrow(TransientError)
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
    expect(plc.server.requests).toHaveLength(2)
  })

  const page = (response: ServerResponse, status: number, bytes = 1_000) =>
    response.writeHead(status, { 'content-type': 'text/html' }).end(`<!doctype html>${' '.repeat(bytes)}`)

  /** Somebody else answers where the directory is looked for, or it is broken. */
  const NONSENSE: [string, (response: ServerResponse) => void][] = [
    ['a redirect', (response) => response.writeHead(301, { location: `https://elsewhere.test/${DID}` }).end()],
    ['a page', (response) => page(response, 200)],
    ['JSON that is no document', (response) => json(response, { version: '0.2' })],
    ['a list', (response) => json(response, [document(DID)])],
    ['nothing', (response) => response.end()],
    ['the document of another', (response) => json(response, document('did:plc:ewvi7nxzyoun6zhxrhs64oiz'))],
    ['an encoding that nobody asked for', (response) => response.writeHead(200, { 'content-encoding': 'zstd' }).end()],
    ['a 404 with a page', (response) => page(response, 404)],
    ['a 404 with an endless page', (response) => page(response, 404, 2_000_000)],
    ['a 404 with nothing', (response) => response.writeHead(404).end()],
    ['a 404 of another interface', (response) => json(response, { error: 'NotFound', message: 'no such route' }, 404)],
    ['a 404 whose message is no text', (response) => json(response, { message: { text: 'DID not registered' } }, 404)],
    ['a 410 with a page', (response) => page(response, 410)],
    ['a 410 with nothing', (response) => response.writeHead(410).end()],
  ]

  test.each(NONSENSE)('is nothing at all when it is %s, and the operator reads where to look', async (_, answer) => {
    await using plc = await directory(answers(answer, (response) => json(response, document(DID))))
    const error = await plc.resolver.resolve(DID).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(TransientError)
    expect((error as Error).message).toContain('PLC_URL')
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
    expect(plc.server.requests).toHaveLength(2)
  })

  test.each(NONSENSE)('stays valid when it is %s later on, and when a refresh is forced', async (_, answer) => {
    let now = 0
    await using plc = await directory(
      answers((response) => json(response, document(DID)), answer),
      { freshMs: 1_000, negativeMs: 500, now: () => now },
    )
    await plc.resolver.resolve(DID)
    now = 1_000
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
    expect(plc.server.requests).toHaveLength(2)
    await expect(plc.resolver.refresh(DID)).rejects.toThrow(TransientError)
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
  })

  test('stays valid through an outage, however old it is', async () => {
    let now = 0
    await using plc = await directory(
      answers(
        (response) => json(response, document(DID)),
        (response) => json(response, {}, 500),
      ),
      { freshMs: 1_000, negativeMs: 500, now: () => now },
    )
    await plc.resolver.resolve(DID)
    for (const [time, requests] of [
      [1e9, 2],
      [1e9 + 499, 2],
      [1e9 + 500, 3],
    ] as const) {
      now = time
      expect(await plc.resolver.resolve(DID)).toEqual(found(DID))
      expect(plc.server.requests).toHaveLength(requests)
    }
  })
})

describe('DIDs that are not asked for', () => {
  test.each([
    'nonsense',
    'did:key:z6Mk',
    'did:web:a.test:path',
    'did:web:a.test:8080',
    'did:web:a.test%3A8080',
    'did:web:a.test%2fx',
    'did:web:u@a.test',
    'did:web:a..test',
    'did:web:1.2.3.4',
    `did:web:${'a'.repeat(64)}.test`,
    'did:example:x',
  ])('%s', async (did) => {
    await using plc = await directory((_, response) => json(response, document(did)))
    expect(await plc.resolver.resolve(did)).toMatchObject({ status: 'invalid' })
    expect(plc.server.requests).toEqual([])
  })
})

test('did:web is asked of its host: 404 is missing, 500 is not known', async () => {
  let status = 500
  await using web = await httpServer((_, response) => json(response, document(did), status))
  const did = `did:web:localhost%3A${web.host.split(':')[1]}`
  const resolver = new IdentityResolver({
    plcUrl: 'http://127.0.0.1:1',
    http,
    cache: new MemoryIdentityCache(),
    negativeMs: 0,
  })
  await expect(resolver.resolve(did)).rejects.toThrow(TransientError)
  status = 404
  expect(await resolver.resolve(did)).toEqual({ status: 'missing' })
  status = 200
  expect(await resolver.resolve(did)).toEqual(found(did))
  expect(web.requests).toEqual(Array.from({ length: 3 }, () => '/.well-known/did.json'))
})

describe('of a did:web its own host is asked, so whatever that says is said of the account', () => {
  test.each([
    ['missing', (response: ServerResponse) => response.writeHead(404).end('<!doctype html>')],
    ['tombstoned', (response: ServerResponse) => response.writeHead(410).end()],
    ['invalid', (response: ServerResponse) => json(response, document('did:web:another.test'))],
    ['invalid', (response: ServerResponse) => response.end('<!doctype html>')],
    ['invalid', (response: ServerResponse) => response.end(Buffer.alloc(600_000, 'x'))],
    ['invalid', (response: ServerResponse) => response.writeHead(302, { location: '/elsewhere' }).end()],
  ])('%s', async (status, answer) => {
    await using web = await httpServer((_, response) => answer(response))
    const did = `did:web:localhost%3A${web.host.split(':')[1]}`
    const resolver = new IdentityResolver({ plcUrl: 'http://127.0.0.1:1', http, cache: new MemoryIdentityCache() })
    expect(await resolver.resolve(did)).toMatchObject({ status })
    expect(await resolver.resolve(did)).toMatchObject({ status })
    expect(web.requests).toHaveLength(1)
  })
})

test.each([
  ['missing', 404],
  ['tombstoned', 410],
])(
  'a did:web whose host answers %s, and never comes to the end of it, has answered',
  async (status, code) => {
    await using web = await httpServer((_, response) => drip(response, code))
    const did = `did:web:localhost%3A${web.host.split(':')[1]}`
    const cache = new MemoryIdentityCache()
    const resolver = new IdentityResolver({ plcUrl: 'http://127.0.0.1:1', http, cache, timeoutMs: 200 })
    expect(await resolver.resolve(did)).toEqual({ status })
  },
  60_000,
)

describe('several at once', () => {
  test('who asks for the same DID shares one request', async () => {
    await using plc = await directory((_, response) => setTimeout(() => json(response, document(DID)), 50))
    const all = await Promise.all(Array.from({ length: 20 }, () => plc.resolver.resolve(DID)))
    expect(all).toEqual(Array.from({ length: 20 }, () => found(DID)))
    expect(plc.server.requests).toHaveLength(1)
  })

  test('who asks after a purge gets what is true after it, though an older request is under way', async () => {
    const held: (() => void)[] = []
    await using plc = await directory(
      answers(
        (response) => held.push(() => json(response, document(DID, 'old.test'))),
        (response) => json(response, document(DID, 'new.test')),
      ),
    )
    const before = plc.resolver.resolve(DID)
    await expect.poll(() => held.length).toBe(1)
    await plc.resolver.purge(DID)
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID, 'new.test'))
    held[0]!()
    expect(await before).toEqual(found(DID, 'old.test'))
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID, 'new.test'))
  })

  test('another process that purges beats the fill of this one', async () => {
    const cache = new MemoryIdentityCache()
    const held: (() => void)[] = []
    await using plc = await directory(
      answers(
        (response) => held.push(() => json(response, document(DID, 'old.test'))),
        (response) => json(response, document(DID, 'new.test')),
      ),
      { cache },
    )
    const before = plc.resolver.resolve(DID)
    await expect.poll(() => held.length).toBe(1)
    await cache.purge(DID)
    held[0]!()
    await before
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID, 'new.test'))
  })
})

describe('a forced refresh', () => {
  test('goes past the cache, once in a while', async () => {
    let now = 0
    let handle = 'old.test'
    await using plc = await directory((_, response) => json(response, document(DID, handle)), {
      refreshEveryMs: 1_000,
      now: () => now,
    })
    await plc.resolver.resolve(DID)
    handle = 'new.test'
    expect(await plc.resolver.refresh(DID)).toEqual({ resolution: found(DID, 'new.test'), refreshed: true })
    expect(await plc.resolver.resolve(DID)).toEqual(found(DID, 'new.test'))
    for (let i = 0; i < 50; i++) expect(await plc.resolver.refresh(DID)).toMatchObject({ refreshed: false })
    expect(plc.server.requests).toHaveLength(2)
    now = 1_000
    expect(await plc.resolver.refresh(DID)).toMatchObject({ refreshed: true })
  })

  test('that failed does not count', async () => {
    await using plc = await directory(
      answers(
        (response) => json(response, {}, 500),
        (response) => json(response, document(DID)),
      ),
    )
    await expect(plc.resolver.refresh(DID)).rejects.toThrow(TransientError)
    expect(await plc.resolver.refresh(DID)).toMatchObject({ refreshed: true })
  })
})

/** When a DID that cannot be resolved is given up, against a directory of our own: time is what the test says it is. */
import type { ServerResponse } from 'node:http'
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { httpServer, json } from '@sluice/atproto/testing/servers.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { afterAll, expect, test } from 'vitest'
import { IdentityUnavailableError, SigningKeys } from './signing-keys.ts'

const http = new HttpClient({ allowPrivate: true })
afterAll(() => http.close())

const [ALICE, BOB] = [testDid('alice'), testDid('bob')]
const GIVE_UP_MS = 60_000
const KEY = testKey('everybody')

type Answer = (response: ServerResponse, did: string) => void

const document: Answer = (response, did) =>
  json(response, {
    id: did,
    verificationMethod: [
      { id: `${did}#atproto`, type: 'Multikey', controller: did, publicKeyMultibase: KEY.multibase },
    ],
  })
const gone: Answer = (response, did) => json(response, { message: `DID not registered: ${did}` }, 404)
const page =
  (status: number): Answer =>
  (response) =>
    response.writeHead(status, { 'content-type': 'text/html' }).end('<!doctype html>')

/** A directory, and keys that ask it. Each request takes ten seconds of the time that both go by. */
async function world(answerOf: (did: string) => Answer) {
  let nowMs = 0
  const asked = new Map<string, number>()
  const server = await httpServer((request, response) => {
    const did = decodeURIComponent(request.url!.slice(1))
    asked.set(did, (asked.get(did) ?? 0) + 1)
    nowMs += 10_000
    answerOf(did)(response, did)
  })
  const keys = new SigningKeys({
    plcUrl: server.url,
    http,
    cache: new MemoryIdentityCache(),
    giveUpMs: GIVE_UP_MS,
    backoff: { baseMs: 1, capMs: 1, healthyAfterMs: 1 },
    now: () => nowMs,
  })
  return {
    keys,
    asked: (did: string) => asked.get(did) ?? 0,
    nowMs: () => nowMs,
    wait: (ms: number) => void (nowMs += ms),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  }
}

/** So often that the time to give up has passed many times over. */
const OFTEN = 50

test.each([
  ['200 and a page', page(200)],
  ['404 and a page', page(404)],
  ['400', page(400)],
  ['a redirect', page(302)],
  ['500', page(500)],
  ['the document of another', ((response) => document(response, testDid('somebody else'))) satisfies Answer],
])('a directory that answers with %s, whoever is asked for, is down: everybody waits for it', async (_, wrong) => {
  let answer: Answer = wrong
  await using at = await world(() => answer)
  const ended: unknown[] = []
  const { signal } = new AbortController()
  const all = Promise.all([ALICE, BOB].map((did) => at.keys.resolve(did, signal)))
  all.catch((error: unknown) => ended.push(error))
  await expect.poll(() => ended.length > 0 || Math.min(at.asked(ALICE), at.asked(BOB)) > OFTEN).toBe(true)
  expect(ended).toEqual([])
  expect(at.nowMs()).toBeGreaterThan(GIVE_UP_MS)
  answer = document
  expect(await all).toMatchObject([{ key: KEY.did }, { key: KEY.did }])
})

test.each([
  ['500', page(500)],
  ['200 and a page', page(200)],
])('one DID for which alone the directory answers with %s is given up after a minute', async (_, wrong) => {
  await using at = await world((did) => (did === ALICE ? wrong : document))
  const { signal } = new AbortController()
  const given = at.keys.resolve(ALICE, signal).catch((error: unknown) => error)
  await expect.poll(() => at.asked(ALICE)).toBeGreaterThan(OFTEN)
  // Nobody else was asked for until now, so it might have been the directory.
  expect(await at.keys.resolve(BOB, signal)).toMatchObject({ key: KEY.did })
  expect(await given).toBeInstanceOf(IdentityUnavailableError)
  await expect(at.keys.resolve(ALICE, signal)).rejects.toThrow(IdentityUnavailableError)
})

test('what a DID waits for its turn here does not count: its directory has not been asked yet', async () => {
  const others = Array.from({ length: 40 }, (_, i) => testDid(`other ${i}`))
  let isFirst = true
  const once = (): Answer => {
    const answer = isFirst ? page(500) : document
    isFirst = false
    return answer
  }
  await using at = await world((did) => (did === ALICE ? once() : document))
  const { signal } = new AbortController()
  const all = await Promise.all([...others, ALICE].map((did) => at.keys.resolve(did, signal)))
  expect(all.at(-1)).toMatchObject({ key: KEY.did })
  expect(at.asked(ALICE)).toBe(2)
  expect(at.nowMs()).toBeGreaterThan(GIVE_UP_MS)
})

test.each<[string, Pick<HttpClient, 'get'>]>([
  ['asks to be left alone for five minutes', http],
  ['never comes to an end', { get: () => new Promise(() => {}) }],
])(
  'a did:web has its time in all: one whose host %s is given up',
  async (_, client) => {
    await using host = await httpServer((_, response) => json(response, {}, 503, { 'retry-after': '300' }))
    const did = `did:web:localhost%3A${host.host.split(':')[1]}`
    const cache = new MemoryIdentityCache()
    const keys = new SigningKeys({ plcUrl: 'http://127.0.0.1:1', http: client, cache, giveUpMs: 300 })
    const { signal } = new AbortController()
    await expect(keys.resolve(did, signal)).rejects.toThrow(IdentityUnavailableError)
    await expect(keys.resolve(did, signal)).rejects.toThrow(IdentityUnavailableError)
    expect(host.requests.length).toBeLessThanOrEqual(1)
  },
  60_000,
)

test('V1 a key is remembered here for an hour, and that there is none for two minutes', async () => {
  await using at = await world((did) => (did === ALICE ? document : gone))
  const { signal } = new AbortController()
  for (const [did, key, ms] of [
    [ALICE, KEY.did, 3_600_000],
    [BOB, undefined, 120_000],
  ] as const) {
    expect(await at.keys.resolve(did, signal)).toMatchObject({ key })
    at.wait(ms)
    expect(at.keys.peek(did)).toMatchObject({ key })
    at.wait(1)
    expect(at.keys.peek(did)).toBeUndefined()
  }
})

test('V1 a DID that was given up is asked for again when it says something of itself, and by itself after a while', async () => {
  let answer: Answer = page(500)
  await using at = await world((did) => (did === ALICE ? answer : document))
  const { signal } = new AbortController()
  const giveUp = async (): Promise<void> => {
    const before = at.asked(ALICE)
    const given = at.keys.resolve(ALICE, signal).catch((error: unknown) => error)
    await expect.poll(() => at.asked(ALICE)).toBeGreaterThan(before + OFTEN)
    await at.keys.purge(BOB, signal)
    expect(await at.keys.resolve(BOB, signal)).toMatchObject({ key: KEY.did })
    expect(await given).toBeInstanceOf(IdentityUnavailableError)
    await expect(at.keys.resolve(ALICE, signal)).rejects.toThrow(IdentityUnavailableError)
  }
  await giveUp()
  answer = document
  await at.keys.purge(ALICE, signal)
  expect(await at.keys.resolve(ALICE, signal)).toMatchObject({ key: KEY.did })
  answer = page(500)
  await at.keys.purge(ALICE, signal)
  await giveUp()
  answer = document
  at.wait(5 * GIVE_UP_MS)
  expect(await at.keys.resolve(ALICE, signal)).toMatchObject({ key: KEY.did })
})

test('text that is no DID is not remembered, nor asked for', async () => {
  await using at = await world(() => document)
  const text = 'x'.repeat(1_000_000)
  expect(await at.keys.resolve(text, new AbortController().signal)).toMatchObject({ key: undefined })
  expect(at.keys.peek(text)).toBeUndefined()
  expect(at.nowMs()).toBe(0)
})

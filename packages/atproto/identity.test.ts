import { parseToAtprotoDocument } from '@atproto/identity'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { encodeBase58 } from './base58.ts'
import { MemoryIdentityCache } from './identity-cache.ts'
import { parseDidKey } from './did-key.ts'
import { parseDidDocument, type Resolution } from './identity.ts'
import { testKey } from './testing/keys.ts'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { p256 } from '@noble/curves/nist.js'

const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'
const k256Key = testKey('identity k256')
const p256Key = testKey('identity p256', 'p256')

const method = (id: string, publicKeyMultibase: string, type = 'Multikey') => ({
  id,
  type,
  controller: DID,
  publicKeyMultibase,
})
const PDS = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: 'https://pds.example.com' }
const LABELER = { id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: 'https://labels.example.com' }
const document = (change: Record<string, unknown> = {}) => ({
  '@context': ['https://www.w3.org/ns/did/v1'],
  id: DID,
  alsoKnownAs: ['https://elsewhere.example.com', 'at://Alice.Example.com', 'at://second.example.com'],
  verificationMethod: [method(`${DID}#atproto`, k256Key.multibase), method(`${DID}#atproto_label`, p256Key.multibase)],
  service: [PDS, LABELER],
  ...change,
})

/** The bare uncompressed point, as documents had it before Multikey. */
function legacyMultibase(key: typeof k256Key): string {
  const { point } = parseDidKey(key.did)
  const curve = key.curve === 'k256' ? secp256k1 : p256
  return `z${encodeBase58(curve.Point.fromBytes(point).toBytes(false))}`
}

describe('a DID document', () => {
  test('says handle, PDS, key and labeler', () => {
    expect(parseDidDocument(DID, document())).toEqual({
      did: DID,
      handle: 'alice.example.com',
      pds: 'https://pds.example.com',
      signingKey: k256Key.did,
      labeler: { endpoint: 'https://labels.example.com', signingKey: p256Key.did },
    })
  })

  test.each([
    ['as it is', document()],
    ['with a p256 key', document({ verificationMethod: [method('#atproto', p256Key.multibase)] })],
    [
      'with a key of the old form',
      document({
        verificationMethod: [method('#atproto', legacyMultibase(k256Key), 'EcdsaSecp256k1VerificationKey2019')],
      }),
    ],
    [
      'with a p256 key of the old form',
      document({
        verificationMethod: [method('#atproto', legacyMultibase(p256Key), 'EcdsaSecp256r1VerificationKey2019')],
      }),
    ],
    ['with the full id of its service', document({ service: [{ ...PDS, id: `${DID}#atproto_pds` }] })],
    ['with another service first', document({ service: [LABELER, PDS] })],
    ['without a key', document({ verificationMethod: [] })],
    ['without anything', { id: DID }],
    ['with a service of another type', document({ service: [{ ...PDS, type: 'Other' }] })],
  ])('is read as the official library reads it: %s', (_, doc) => {
    const ours = parseDidDocument(DID, doc)
    const theirs = parseToAtprotoDocument(doc)
    expect({ pds: ours.pds, signingKey: ours.signingKey, handle: ours.handle }).toEqual({
      pds: theirs.pds,
      signingKey: theirs.signingKey,
      handle: theirs.handle?.toLowerCase(),
    })
  })

  test.each([
    ['a handle that is none', { alsoKnownAs: ['at://not a handle'] }, 'handle'],
    ['names that are no list', { alsoKnownAs: 'at://alice.example.com' }, 'handle'],
    [
      'a key of a curve that atproto has not',
      { verificationMethod: [method('#atproto', 'z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK')] },
      'signingKey',
    ],
    ['a key that is not base58', { verificationMethod: [method('#atproto', 'z0000')] }, 'signingKey'],
    ...['constructor', '__proto__', 'toString', 'Multi'].map((type): [string, Record<string, unknown>, string] => [
      `a key of the type ${type}`,
      { verificationMethod: [method('#atproto', k256Key.multibase, type)] },
      'signingKey',
    ]),
    ['a key of another name', { verificationMethod: [method('#other', k256Key.multibase)] }, 'signingKey'],
    ['an endpoint that is no URL', { service: [{ ...PDS, serviceEndpoint: 'nowhere' }] }, 'pds'],
    ['an endpoint of another scheme', { service: [{ ...PDS, serviceEndpoint: 'ftp://pds.example.com' }] }, 'pds'],
    ['an endpoint with a password', { service: [{ ...PDS, serviceEndpoint: 'https://a:b@pds.example.com' }] }, 'pds'],
    ...[300, 400_000].map((chars): [string, Record<string, unknown>, string] => [
      `an endpoint of ${chars} characters`,
      { service: [{ ...PDS, serviceEndpoint: `https://${'a'.repeat(chars - 4)}.com` }] },
      'pds',
    ]),
    // Of the name too: 64,000 Chinese characters were read for two seconds.
    ['an endpoint with a long path', { service: [{ ...PDS, serviceEndpoint: `https://a.test/${'a'.repeat(2_000)}` }] }, 'pds'], // prettier-ignore
    ['an endpoint that is a list', { service: [{ ...PDS, serviceEndpoint: ['https://pds.example.com'] }] }, 'pds'],
  ])('with %s has none', (_, change, field) => {
    const identity = parseDidDocument(DID, document(change))
    expect(identity).not.toHaveProperty(field)
    expect(Object.keys(identity).length).toBeGreaterThanOrEqual(3)
  })

  test('whatever else is in it, it is read', () => {
    const word = fc.constantFrom('constructor', 'toString', '__proto__', '#atproto', '#atproto_pds', 'Multikey', 'at://a.test', k256Key.multibase) // prettier-ignore
    const any = fc.oneof(word, fc.jsonValue({ maxDepth: 2 }))
    const entry = fc.record(
      { id: word, type: any, publicKeyMultibase: any, serviceEndpoint: any },
      { requiredKeys: [] },
    )
    const list = fc.oneof(any, fc.array(fc.oneof(entry, any), { maxLength: 3 }))
    fc.assert(
      fc.property(list, list, list, (alsoKnownAs, verificationMethod, service) => {
        expect(parseDidDocument(DID, { id: DID, alsoKnownAs, verificationMethod, service }).did).toBe(DID)
      }),
      { numRuns: 10_000 },
    )
  })

  test.each([
    ['of another DID', document({ id: 'did:plc:other' })],
    ['that is a list', []],
    ['that is null', null],
    ['that is text', 'x'],
  ])('%s is refused', (_, doc) => {
    expect(() => parseDidDocument(DID, doc)).toThrow(expect.objectContaining({ reason: 'identity-bad-document' }))
  })
})

describe('the cache in memory', () => {
  const found = (handle: string): { resolution: Resolution; resolvedAt: number } => ({
    resolution: { status: 'found', identity: { did: DID, handle } },
    resolvedAt: 1,
  })

  test('a purge beats a fill that began before it', async () => {
    const cache = new MemoryIdentityCache()
    const { epoch } = await cache.get(DID)
    await cache.purge(DID)
    expect(await cache.set(DID, found('stale'), epoch)).toBe(false)
    expect((await cache.get(DID)).cached).toBeUndefined()
    const fresh = await cache.get(DID)
    expect(await cache.set(DID, found('fresh'), fresh.epoch)).toBe(true)
    expect((await cache.get(DID)).cached).toEqual(found('fresh'))
    await cache.purge(DID)
    expect((await cache.get(DID)).cached).toBeUndefined()
  })

  test('a fill for a DID that was forgotten since is void: its purge may have been forgotten with it', async () => {
    const cache = new MemoryIdentityCache(2)
    const { epoch } = await cache.get(DID)
    await cache.purge(DID)
    await cache.get('did:web:a')
    await cache.get('did:web:b')
    expect(await cache.set(DID, found('stale'), epoch)).toBe(false)
    await cache.get(DID)
    expect(await cache.set(DID, found('stale'), epoch)).toBe(false)
  })

  test('the least recently used goes first', async () => {
    const cache = new MemoryIdentityCache(2)
    for (const did of ['a', 'b']) await cache.set(did, found(did), (await cache.get(did)).epoch)
    await cache.get('a')
    await cache.get('c')
    expect((await cache.get('a')).cached).toEqual(found('a'))
    expect((await cache.get('b')).cached).toBeUndefined()
  })
})

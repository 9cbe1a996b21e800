/**
 * What a DID document says of an account: handle (only a claim, see `handle-resolver.ts`), PDS, signing key, labeler.
 * https://atproto.com/specs/did#representation-in-did-documents
 */
import { RefusedError } from '@sluice/runtime/errors.ts'
import { decodeBase58, encodeBase58 } from './base58.ts'
import { parseDidKey, type Curve } from './did-key.ts'
import { isHandle } from './syntax.ts'

export interface Identity {
  did: string
  /** The first handle that the document claims, in lower case. */
  handle?: string
  /** The PDS, which has the account's repository: an origin, `https://host`. */
  pds?: string
  /** The key that signs the account's commits, a did:key. */
  signingKey?: string
  labeler?: { endpoint: string; signingKey?: string }
}

/** A DID that resolves, or the definite answer that it does not. */
export type Resolution =
  | { status: 'found'; identity: Identity }
  /** The directory or the host does not know the DID. */
  | { status: 'missing' }
  /** The owner has ended the DID for good. */
  | { status: 'tombstoned' }
  /** The answer is no document of this DID. */
  | { status: 'invalid'; detail: string }

const IDENTITY_REFUSALS = ['identity-bad-document'] as const
export type IdentityRefusal = (typeof IDENTITY_REFUSALS)[number]

/** A map and not an object: a stranger chooses the name that is looked up, and an object would find `constructor`. */
const LEGACY_CURVE: ReadonlyMap<string, Curve> = new Map([
  ['EcdsaSecp256k1VerificationKey2019', 'k256'],
  ['EcdsaSecp256r1VerificationKey2019', 'p256'],
])
const HOST_CHARS = 253
/**
 * The longest endpoint that is parsed. A host name that is not ASCII takes time by the square of its length: 2 s for
 * 64,000 characters.
 */
const ENDPOINT_CHARS = 1_024
const CODEC: Record<Curve, number[]> = { k256: [0xe7, 0x01], p256: [0x80, 0x24] }

/**
 * The identity in a DID document. Parts that are missing or wrong are left out: for example, an account without a valid
 * key has no `signingKey`.
 * @throws RefusedError<IdentityRefusal> when the document is not one of `did`
 */
export function parseDidDocument(did: string, document: unknown): Identity {
  const doc = objectOf(document)
  if (doc === undefined || doc.id !== did) throw new RefusedError('identity-bad-document', `no document of ${did}`)
  const handle = handleOf(doc.alsoKnownAs)
  const pds = endpointOf(doc, '#atproto_pds', 'AtprotoPersonalDataServer')
  const signingKey = keyOf(doc, '#atproto')
  const endpoint = endpointOf(doc, '#atproto_labeler', 'AtprotoLabeler')
  const labelKey = keyOf(doc, '#atproto_label')
  return {
    did,
    ...(handle !== undefined && { handle }),
    ...(pds !== undefined && { pds }),
    ...(signingKey !== undefined && { signingKey }),
    ...(endpoint !== undefined && { labeler: { endpoint, ...(labelKey !== undefined && { signingKey: labelKey }) } }),
  }
}

function handleOf(names: unknown): string | undefined {
  const name = listOf(names).find((entry) => typeof entry === 'string' && entry.startsWith('at://'))
  if (typeof name !== 'string') return undefined
  const handle = name.slice('at://'.length).toLowerCase()
  return isHandle(handle) ? handle : undefined
}

function endpointOf(doc: Record<string, unknown>, id: string, type: string): string | undefined {
  const service = entryOf(doc, 'service', id)
  const endpoint = service?.type === type ? service.serviceEndpoint : undefined
  if (typeof endpoint !== 'string' || endpoint.length > ENDPOINT_CHARS || !URL.canParse(endpoint)) return undefined
  const url = new URL(endpoint)
  // No host name is longer. The bound matters since the endpoint is kept in the identity cache for days, and its host
  // in keys of Redis for ever.
  if (url.hostname.length > HOST_CHARS) return undefined
  return (url.protocol === 'https:' || url.protocol === 'http:') && url.username === '' ? url.origin : undefined
}

function keyOf(doc: Record<string, unknown>, id: string): string | undefined {
  const method = entryOf(doc, 'verificationMethod', id)
  const { type, publicKeyMultibase: multibase } = method ?? {}
  if (typeof multibase !== 'string' || !multibase.startsWith('z') || typeof type !== 'string') return undefined
  const didKey = type === 'Multikey' ? `did:key:${multibase}` : legacyKey(LEGACY_CURVE.get(type), multibase)
  if (didKey === undefined) return undefined
  try {
    parseDidKey(didKey)
    return didKey
  } catch {
    return undefined // a curve that atproto does not use: no signature by this key is valid
  }
}

/** The did:key of a key from before Multikey: such a key is the bare curve point, often uncompressed. */
function legacyKey(curve: Curve | undefined, multibase: string): string | undefined {
  const point = decodeBase58(multibase.slice(1))
  if (curve === undefined || point === undefined) return undefined
  const compressed =
    point.length === 65 && point[0] === 4
      ? Buffer.concat([Uint8Array.of(2 | (point[64]! & 1)), point.subarray(1, 33)])
      : point
  return `did:key:z${encodeBase58(Buffer.concat([Uint8Array.from(CODEC[curve]), compressed]))}`
}

/** The first entry of a list whose id is `id`, with or without the DID in front. */
function entryOf(doc: Record<string, unknown>, list: string, id: string): Record<string, unknown> | undefined {
  return listOf(doc[list])
    .map(objectOf)
    .find((entry) => entry?.id === id || entry?.id === `${String(doc.id)}${id}`)
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : []
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined
}

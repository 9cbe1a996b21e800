/**
 * ECDSA over SHA-256 with the two curves of atproto, k256 and p256: compact signatures (r, s; 64 bytes), low S only.
 * https://atproto.com/specs/cryptography
 *
 * Hazards: `node:crypto` accepts an S in the upper half of the range, so this file checks for low S itself, on both curves. A signature in DER never passes, since the
 * length is fixed.
 *
 * Measured, µs of CPU a check: k256 by libsecp256k1 (the `secp256k1` package's prebuilt addon) 52, by `node:crypto` 337, by
 * `@atproto/crypto` 1,270; a WebAssembly build of libsecp256k1 took 214. p256 by `node:crypto` 50, by `@atproto/crypto` 2,300.
 * The addon has no build for some platforms. Where it does not load, `node:crypto` is used; tests compare the verdicts of both.
 */
import { createPublicKey, hash, verify, type KeyObject } from 'node:crypto'
import { createRequire } from 'node:module'
import { RefusedError } from '@sluice/runtime/errors.ts'
import { decodeBase58 } from './base58.ts'
import { LruMap } from './lru-map.ts'

export const KEY_REFUSALS = ['key-unsupported'] as const
export type KeyRefusal = (typeof KEY_REFUSALS)[number]

export type Curve = 'k256' | 'p256'

export interface PublicKey {
  curve: Curve
  /** The compressed point, 33 bytes. */
  point: Uint8Array
}

const SIGNATURE_BYTES = 64
const POINT_BYTES = 33

/** The multicodec prefixes of did:key. */
const CODEC: Record<Curve, [number, number]> = { k256: [0xe7, 0x01], p256: [0x80, 0x24] }

/** The DER bytes of a SubjectPublicKeyInfo that come before the point. */
const SPKI: Record<Curve, Buffer> = {
  k256: Buffer.from('3036301006072a8648ce3d020106052b8104000a032200', 'hex'),
  p256: Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
}

/** Half of each curve's order: the largest S that is allowed. */
const HALF_ORDER: Record<Curve, Buffer> = {
  k256: Buffer.from('7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0', 'hex'),
  p256: Buffer.from('7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8', 'hex'),
}

interface Secp256k1 {
  ecdsaVerify(signature: Uint8Array, digest: Uint8Array, point: Uint8Array): boolean
  publicKeyVerify(point: Uint8Array): boolean
}

/** The native addon, loaded directly. The main file of the package falls back to JavaScript, which is slower than `node:crypto`. */
const addon = loadAddon()

/** Which library checks k256 signatures on this machine. */
export const k256Library: 'libsecp256k1' | 'node:crypto' = addon ? 'libsecp256k1' : 'node:crypto'

interface Checker {
  curve: Curve
  check(bytes: Uint8Array, signature: Uint8Array): boolean
}

/**
 * Caches of parsed keys. A key for libsecp256k1 takes 0.5 kB, one for `node:crypto` 6.5 kB. Anybody may have any number of accounts with p256 keys, and 100,000 of these would take 650 MB in each thread. To
 * parse a key again takes 12 µs (libsecp256k1) and 100 µs (`node:crypto`).
 */
const addonCheckers = new LruMap<Checker>(100_000)
const nodeCheckers = new LruMap<Checker>(10_000)

/**
 * Whether `signature` over `bytes` was made by `didKey`.
 * @throws RefusedError<KeyRefusal> when `didKey` is no key of a known curve
 */
export function verifySignature(didKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const checker = checkerOf(didKey)
  return signature.length === SIGNATURE_BYTES && isLowS(checker.curve, signature) && checker.check(bytes, signature)
}

/** As `verifySignature`, with `node:crypto` alone and without a cache. Tests compare the addon with it. */
export function verifyByNode(didKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const key = parseDidKey(didKey)
  return (
    signature.length === SIGNATURE_BYTES && isLowS(key.curve, signature) && nodeChecker(key).check(bytes, signature)
  )
}

/**
 * The curve and point of a `did:key:z…`.
 * @throws RefusedError<KeyRefusal>
 */
export function parseDidKey(didKey: string): PublicKey {
  const bytes = didKey.startsWith('did:key:z') ? decodeBase58(didKey.slice('did:key:z'.length)) : undefined
  if (bytes?.length === POINT_BYTES + 2) {
    for (const curve of ['k256', 'p256'] as const) {
      const [a, b] = CODEC[curve]
      if (bytes[0] === a && bytes[1] === b) return { curve, point: bytes.subarray(2) }
    }
  }
  throw refuse(didKey)
}

/** Whether S is at most half of the curve's order. */
export function isLowS(curve: Curve, signature: Uint8Array): boolean {
  const half = HALF_ORDER[curve]
  for (let i = 0; i < 32; i++) {
    const difference = signature[32 + i]! - half[i]!
    if (difference !== 0) return difference < 0
  }
  return true
}

function checkerOf(didKey: string): Checker {
  const known = addonCheckers.get(didKey) ?? nodeCheckers.get(didKey)
  if (known !== undefined) return known
  const key = parseDidKey(didKey)
  const byAddon = key.curve === 'k256' ? addon : undefined
  const checker = byAddon ? addonChecker(byAddon, key.point, didKey) : nodeChecker(key)
  const checkers = byAddon ? addonCheckers : nodeCheckers
  checkers.set(didKey, checker)
  return checker
}

function addonChecker(addon: Secp256k1, point: Uint8Array, didKey: string): Checker {
  if (!addon.publicKeyVerify(point)) throw refuse(didKey)
  return {
    curve: 'k256',
    check(bytes, signature) {
      try {
        return addon.ecdsaVerify(signature, hash('sha256', bytes, 'buffer'), point)
      } catch {
        return false // r or s is not below the curve's order. The addon throws here, where other libraries return false.
      }
    },
  }
}

function nodeChecker({ curve, point }: PublicKey): Checker {
  let key: KeyObject
  try {
    key = createPublicKey({ key: Buffer.concat([SPKI[curve], point]), format: 'der', type: 'spki' })
  } catch (cause) {
    throw refuse('not a point of its curve', cause)
  }
  return {
    curve,
    check: (bytes, signature) => verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature),
  }
}

function loadAddon(): Secp256k1 | undefined {
  try {
    return createRequire(import.meta.url)('secp256k1/bindings.js') as Secp256k1
  } catch {
    return undefined
  }
}

function refuse(detail: string, cause?: unknown): RefusedError<KeyRefusal> {
  return new RefusedError('key-unsupported', detail, { cause })
}

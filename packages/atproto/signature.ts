/**
 * ECDSA over SHA-256 with the two curves of atproto, k256 and p256: compact signatures (r, s; 64 bytes), low S only.
 * https://atproto.com/specs/cryptography
 *
 * Hazards: `node:crypto` accepts an S in the upper half of the range, so this file checks for low S itself, on both
 * curves. A signature in DER never passes, since the length is fixed.
 */
import { RefusedError } from '@sluice/runtime/errors.ts'
import { decodeBase58 } from './base58.ts'
import { LruMap } from './lru-map.ts'
import { checkerOf, LIBRARIES, type Checker } from './signature-checker.ts'

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

/** Half of each curve's order: the largest S that is allowed. */
const HALF_ORDER: Record<Curve, Buffer> = {
  k256: Buffer.from('7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0', 'hex'),
  p256: Buffer.from('7fffffff800000007fffffffffffffffde737d56d38bcf4279dce5617e3192a8', 'hex'),
}

/**
 * Caches of parsed keys. A key for libsecp256k1 takes 0.5 kB, one for `node:crypto` 6.5 kB. Anybody may have any number
 * of accounts with p256 keys, and 100,000 of these would take 650 MB in each thread. To parse a key again takes 12 µs
 * (libsecp256k1) and 100 µs (`node:crypto`).
 */
const checkers = { libsecp256k1: new LruMap<Checker>(100_000), 'node:crypto': new LruMap<Checker>(10_000) }

/**
 * Whether `signature` over `bytes` was made by `didKey`.
 * @throws RefusedError<KeyRefusal> when `didKey` is no key of a known curve
 */
export function verifySignature(didKey: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  const checker = cachedChecker(didKey)
  return signature.length === SIGNATURE_BYTES && isLowS(checker.curve, signature) && checker.check(bytes, signature)
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
  throw new RefusedError<KeyRefusal>('key-unsupported', didKey)
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

function cachedChecker(didKey: string): Checker {
  const known = checkers.libsecp256k1.get(didKey) ?? checkers['node:crypto'].get(didKey)
  if (known !== undefined) return known
  const checker = checkerOf(parseDidKey(didKey))
  checkers[LIBRARIES[checker.curve]].set(didKey, checker)
  return checker
}

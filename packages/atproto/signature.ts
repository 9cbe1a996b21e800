/**
 * ECDSA over SHA-256 with the two curves of atproto, k256 and p256: compact signatures (r, s; 64 bytes), low S only.
 * https://atproto.com/specs/cryptography
 *
 * Hazards: `node:crypto` accepts an S in the upper half of the range, so this file checks for low S itself, on both
 * curves. A signature in DER never passes, since the length is fixed.
 */
import { parseDidKey, type Curve } from './did-key.ts'
import { LruMap } from './lru-map.ts'
import { checkerOf, LIBRARIES, type Checker } from './signature-checker.ts'

const SIGNATURE_BYTES = 64

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

/**
 * Checks signatures with one key, by the faster library of this machine. Says nothing about low S: `signature.ts`
 * checks that itself, on both curves.
 *
 * Measured, µs of CPU a check: k256 by libsecp256k1 (the `secp256k1` package's prebuilt addon) 52, by `node:crypto`
 * 337, by `@atproto/crypto` 1,270; a WebAssembly build of libsecp256k1 took 214. p256 by `node:crypto` 50, by
 * `@atproto/crypto` 2,300. The addon has no build for some platforms. Where it does not load, `node:crypto` is used;
 * tests compare the verdicts of both.
 */
import { createPublicKey, hash, verify, type KeyObject } from 'node:crypto'
import { createRequire } from 'node:module'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { Curve, KeyRefusal, PublicKey } from './did-key.ts'

export interface Checker {
  curve: Curve
  /** Whether `signature` (r, s; 64 bytes) over `bytes` was made by the key. */
  check(bytes: Uint8Array, signature: Uint8Array): boolean
}

interface Secp256k1 {
  ecdsaVerify(signature: Uint8Array, digest: Uint8Array, point: Uint8Array): boolean
  publicKeyVerify(point: Uint8Array): boolean
}

/** The DER bytes of a SubjectPublicKeyInfo that come before the point. */
const SPKI: Record<Curve, Buffer> = {
  k256: Buffer.from('3036301006072a8648ce3d020106052b8104000a032200', 'hex'),
  p256: Buffer.from('3039301306072a8648ce3d020106082a8648ce3d030107032200', 'hex'),
}

/**
 * The native addon, loaded directly. The main file of the package falls back to JavaScript, which is slower than
 * `node:crypto`.
 */
const addon = loadAddon()

/** The library that checks signatures of each curve on this machine. */
export const LIBRARIES: Record<Curve, 'libsecp256k1' | 'node:crypto'> = {
  k256: addon ? 'libsecp256k1' : 'node:crypto',
  p256: 'node:crypto',
}

/**
 * A checker by the library of the key's curve (`LIBRARIES`).
 * @throws RefusedError<KeyRefusal> when the key is no point of its curve
 */
export function checkerOf(key: PublicKey): Checker {
  return addon && key.curve === 'k256' ? addonChecker(addon, key.point) : nodeChecker(key)
}

/**
 * A checker by `node:crypto`.
 * @throws RefusedError<KeyRefusal> when the key is no point of its curve
 */
export function nodeChecker({ curve, point }: PublicKey): Checker {
  let key: KeyObject
  try {
    key = createPublicKey({ key: Buffer.concat([SPKI[curve], point]), format: 'der', type: 'spki' })
  } catch (cause) {
    throw noPoint(cause)
  }
  return {
    curve,
    check: (bytes, signature) => verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature),
  }
}

function addonChecker(addon: Secp256k1, point: Uint8Array): Checker {
  if (!addon.publicKeyVerify(point)) throw noPoint()
  return {
    curve: 'k256',
    check(bytes, signature) {
      try {
        return addon.ecdsaVerify(signature, hash('sha256', bytes, 'buffer'), point)
      } catch {
        // r or s is not below the curve's order. The addon throws here, where other libraries return false.
        return false
      }
    },
  }
}

function loadAddon(): Secp256k1 | undefined {
  try {
    return createRequire(import.meta.url)('secp256k1/bindings.js') as Secp256k1
  } catch {
    return undefined
  }
}

function noPoint(cause?: unknown): RefusedError<KeyRefusal> {
  return new RefusedError('key-unsupported', 'not a point of its curve', { cause })
}

/** Real key pairs for tests. The same seed gives the same key pair, and signatures are deterministic (RFC 6979). */
import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { p256 } from '@noble/curves/nist.js'
import { secp256k1 } from '@noble/curves/secp256k1.js'
import { encodeBase58 } from '../base58.ts'
import type { Curve } from '../did-key.ts'

export interface TestKey {
  curve: Curve
  /** `did:key:z…` */
  did: string
  /** The multibase text of a `Multikey` in a DID document. */
  multibase: string
  /** A compact low-S signature over the SHA-256 of `bytes`. */
  sign(bytes: Uint8Array): Uint8Array
}

interface Signer {
  ecdsaSign(digest: Uint8Array, secret: Uint8Array): { signature: Uint8Array }
}

const CODEC: Record<Curve, number[]> = { k256: [0xe7, 0x01], p256: [0x80, 0x24] }
const addon = loadAddon()

/** The key pair of a seed. */
export function testKey(seed: string, curve: Curve = 'k256'): TestKey {
  const secret = createHash('sha256').update(`sluice test key ${curve} ${seed}`).digest()
  const library = curve === 'k256' ? secp256k1 : p256
  const multibase = `z${encodeBase58(Buffer.concat([Uint8Array.from(CODEC[curve]), library.getPublicKey(secret, true)]))}`
  return {
    curve,
    did: `did:key:${multibase}`,
    multibase,
    sign(bytes) {
      const digest = createHash('sha256').update(bytes).digest()
      // The addon makes the same signature 20 times as fast.
      if (curve === 'k256' && addon) return addon.ecdsaSign(digest, secret).signature
      return library.sign(digest, secret, { prehash: false, lowS: true })
    },
  }
}

/** The same signature with the high S: mathematically valid, forbidden by atproto. */
export function highS(signature: Uint8Array, curve: Curve): Uint8Array {
  const order = (curve === 'k256' ? secp256k1 : p256).Point.Fn.ORDER
  const s = BigInt(`0x${Buffer.from(signature.subarray(32)).toString('hex')}`)
  const flipped = (order - s).toString(16).padStart(64, '0')
  return Buffer.concat([signature.subarray(0, 32), Buffer.from(flipped, 'hex')])
}

function loadAddon(): Signer | undefined {
  try {
    return createRequire(import.meta.url)('secp256k1/bindings.js') as Signer
  } catch {
    return undefined
  }
}

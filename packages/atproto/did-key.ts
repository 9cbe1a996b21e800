/** Public keys of the two curves of atproto, k256 and p256, as did:key. https://atproto.com/specs/cryptography */
import { RefusedError } from '@sluice/runtime/errors.ts'
import { decodeBase58 } from './base58.ts'

export const KEY_REFUSALS = ['key-unsupported'] as const
export type KeyRefusal = (typeof KEY_REFUSALS)[number]

export type Curve = 'k256' | 'p256'

export interface PublicKey {
  curve: Curve
  /** The compressed point, 33 bytes. */
  point: Uint8Array
}

const POINT_BYTES = 33

/** The multicodec prefixes of did:key. */
const CODEC: Record<Curve, [number, number]> = { k256: [0xe7, 0x01], p256: [0x80, 0x24] }

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

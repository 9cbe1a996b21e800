/**
 * The signed commit: the root block of a repository. https://atproto.com/specs/repository#commit-objects
 *
 * The signature is over the same map without `sig`. The encoding is canonical, so the signed bytes are the block's
 * bytes without that pair: to parse and cut takes 0.9 µs. To encode the map again would take 3.7 µs more with the
 * official encoder.
 */
import { RefusedError } from '@sluice/runtime/errors.ts'
import { decodeItem, Link, type ItemMap } from './cbor.ts'
import type { Cid } from './cid.ts'
import { verifySignature } from './signature.ts'

export const SIGNED_COMMIT_REFUSALS = ['commit-bad-block', 'commit-wrong-version'] as const
export type SignedCommitRefusal = (typeof SIGNED_COMMIT_REFUSALS)[number]

export interface SignedCommit {
  did: string
  rev: string
  /** The root of the repository's tree. */
  data: Cid
  /** The bytes that were signed. */
  unsigned: Uint8Array
  signature: Uint8Array
}

const VERSION = 3

/** The head and text of the key "sig": `63 73 69 67`. After it come `58 40`, the head of a byte string of 64 bytes. */
const SIG_KEY = Buffer.from('63736967', 'hex')

/**
 * Parses the commit in `block`. Version 2 is refused: no host writes it any more.
 * @throws RefusedError<SignedCommitRefusal | CborRefusal>
 */
export function parseSignedCommit(block: Buffer): SignedCommit {
  const { value, end } = decodeItem(block, 0)
  if (end !== block.length) throw refuse('commit-bad-block', 'bytes after the commit')
  const map = value as ItemMap | null
  const { did, rev, data, sig, version } = map ?? {}
  if (typeof did !== 'string' || typeof rev !== 'string' || !(data instanceof Link) || !Buffer.isBuffer(sig)) {
    throw refuse('commit-bad-block', 'did, rev, data or sig is missing or of the wrong type')
  }
  if (version !== VERSION)
    throw refuse('commit-wrong-version', typeof version === 'number' ? String(version) : 'not a number')
  return { did, rev, data: data.cid, unsigned: withoutSig(block, sig), signature: sig }
}

/**
 * Whether `didKey` signed the commit.
 * @throws RefusedError<KeyRefusal>
 */
export function isSignedBy(commit: SignedCommit, didKey: string): boolean {
  return verifySignature(didKey, commit.unsigned, commit.signature)
}

/**
 * The encoded map without the pair `sig`: the count in the map's head is one less, and the bytes of the pair are left
 * out.
 */
function withoutSig(block: Buffer, sig: Buffer): Uint8Array {
  const end = sig.byteOffset - block.byteOffset + sig.length
  const start = end - sig.length - headBytes(sig.length) - SIG_KEY.length
  const pairs = block[0]! - 0xa0
  if (pairs < 1 || pairs > 23 || start < 1 || SIG_KEY.compare(block, start, start + SIG_KEY.length) !== 0) {
    throw refuse('commit-bad-block', 'an encoding that is not canonical')
  }
  const unsigned = Buffer.allocUnsafe(block.length - (end - start))
  block.copy(unsigned, 0, 0, start)
  block.copy(unsigned, start, end)
  unsigned[0] = block[0]! - 1
  return unsigned
}

function headBytes(length: number): number {
  if (length < 24) return 1
  return length < 0x100 ? 2 : 3
}

function refuse(reason: SignedCommitRefusal, detail: string): RefusedError<SignedCommitRefusal> {
  return new RefusedError(reason, detail)
}

/**
 * A label's signature: by the labeler's key `#atproto_label`, over the canonical encoding of the label without `sig`.
 * https://atproto.com/specs/label#signatures
 */
import type { Label } from '@sluice/events/label-event.ts'
import { encodeCbor } from './cbor-encode.ts'
import { verifySignature } from './signature.ts'

export type LabelSignature = 'good' | 'bad' | 'absent'

/** The fields that a label of version 1 has, and that are signed. Anything else a host may have added on the way. */
const SIGNED = ['ver', 'src', 'uri', 'cid', 'val', 'neg', 'cts', 'exp'] as const

/**
 * What a label's signature is worth.
 * @throws RefusedError<KeyRefusal> when `didKey` is no key of a known curve
 */
export function labelSignature(label: Label, didKey: string): LabelSignature {
  if (label.sig === undefined) return 'absent'
  const unsigned = encodeCbor(Object.fromEntries(SIGNED.map((field) => [field, label[field]])))
  const signature = Buffer.from(label.sig.$bytes, 'base64')
  return verifySignature(didKey, unsigned, signature) ? 'good' : 'bad'
}

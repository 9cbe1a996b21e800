/**
 * Checks labels: whether a value is a label, and whether its signature is valid. The labeler signs with its key
 * `#atproto_label`; the signature is over the canonical encoding of the label without `sig`.
 * https://atproto.com/specs/label#signatures
 */
import type { Label } from '@sluice/events/label-event.ts'
import type { Json } from './cbor.ts'
import { encodeCbor } from './cbor-encode.ts'
import { verifySignature } from './signature.ts'

export type LabelSignature = 'good' | 'bad' | 'absent'

/** The lexicon's limit for `val`. */
const VAL_BYTES = 128
/**
 * The limit of `src`, `uri`, `cid` and `val` together. They are one key in PostgreSQL, and an index row has at most
 * 2,704 bytes, some of which PostgreSQL uses itself.
 */
const KEY_BYTES = 2_600

/**
 * Whether the value is a label that PostgreSQL can store. Anybody may be a labeler, and may sign hundreds of thousands
 * of labels that cannot be stored. Without this check each of these would become a dead letter, until all labels wait
 * for an operator.
 */
export function isLabel(value: Json): value is Json & Label {
  return hasItsFields(value) && canBeKept(value)
}

function hasItsFields(value: Json): value is Json & Label {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false
  const { src, uri, val, cts, cid, exp, neg, ver, sig } = value
  return (
    [src, uri, val, cts].every((field) => typeof field === 'string') &&
    [cid, exp].every((field) => field === undefined || typeof field === 'string') &&
    (neg === undefined || typeof neg === 'boolean') &&
    (ver === undefined || typeof ver === 'number') &&
    (sig === undefined || (typeof sig === 'object' && sig !== null && '$bytes' in sig))
  )
}

function canBeKept({ src, uri, cid = '', val }: Label): boolean {
  const key = `${src}${uri}${cid}${val}`
  return Buffer.byteLength(val) <= VAL_BYTES && Buffer.byteLength(key) <= KEY_BYTES && !key.includes('\u0000')
}

/** The signed fields of a label of version 1. A host may have added other fields on the way. */
const SIGNED = ['ver', 'src', 'uri', 'cid', 'val', 'neg', 'cts', 'exp'] as const

/**
 * Checks a label's signature.
 * @throws RefusedError<KeyRefusal> when `didKey` is no key of a known curve
 */
export function labelSignature(label: Label, didKey: string): LabelSignature {
  if (label.sig === undefined) return 'absent'
  const unsigned = encodeCbor(Object.fromEntries(SIGNED.map((field) => [field, label[field]])))
  const signature = Buffer.from(label.sig.$bytes, 'base64')
  return verifySignature(didKey, unsigned, signature) ? 'good' : 'bad'
}

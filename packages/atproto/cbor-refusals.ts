/** Why `cbor.ts` refuses bytes. A closed list: the reasons are values of a metric's label. */
import { RefusedError } from '@sluice/runtime/errors.ts'

export const CBOR_REFUSALS = [
  'cbor-truncated',
  'cbor-trailing-bytes',
  'cbor-not-canonical',
  'cbor-float',
  'cbor-integer-range',
  'cbor-unsupported',
  'cbor-bad-utf8',
  'cbor-bad-link',
  'cbor-too-deep',
  'cbor-too-many-values',
  'cbor-reserved-key',
  'cbor-bad-type',
  'cbor-bad-blob',
  'cbor-not-a-map',
] as const
export type CborRefusal = (typeof CBOR_REFUSALS)[number]

/** The error to throw. @param detail what is wrong with these bytes */
export function refuseCbor(reason: CborRefusal, detail: string): RefusedError<CborRefusal> {
  return new RefusedError(reason, detail)
}

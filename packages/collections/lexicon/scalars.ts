/** Checks of values that hold no other values: string, integer, boolean, bytes, blob. */
import { FatalError } from '@sluice/runtime/errors.ts'
import type {
  BlobDefinition,
  BooleanDefinition,
  BytesDefinition,
  IntegerDefinition,
  StringDefinition,
} from './document.ts'
import { FORMATS } from './formats.ts'
import { countGraphemes } from './graphemes.ts'
import { byteLength, isObject, isRawLink } from './json-values.ts'
import { violation, type Check, type Violation } from './violation.ts'

/** A UTF-16 unit of a JavaScript string takes at most this many bytes in UTF-8. */
const MOST_BYTES_A_UNIT = 3

export function checkString(definition: StringDefinition): Check {
  const fixed = checkFixed(definition)
  if (fixed) return fixed
  const { format, minLength, maxLength, minGraphemes, maxGraphemes } = definition
  const isFormatted = format === undefined ? undefined : formatOf(format)
  const isUnbounded = (minLength ?? maxLength ?? minGraphemes ?? maxGraphemes) === undefined
  return (value) => {
    if (typeof value !== 'string') return violation('is not a string')
    if (!isUnbounded) {
      const found = checkLength(value, definition)
      if (found) return found
    }
    return isFormatted === undefined || isFormatted(value) ? undefined : violation(`is not of format ${format}`)
  }
}

function formatOf(format: string): (text: string) => boolean {
  if (!Object.hasOwn(FORMATS, format)) throw new FatalError(`string format ${JSON.stringify(format)} is not known`)
  return FORMATS[format as keyof typeof FORMATS]
}

function checkLength(text: string, bounds: StringDefinition): Violation | undefined {
  const { minLength, maxLength, minGraphemes, maxGraphemes } = bounds
  if (minLength !== undefined && text.length < minLength && Buffer.byteLength(text) < minLength) {
    return violation(`is shorter than ${minLength} bytes`)
  }
  if (maxLength !== undefined && text.length * MOST_BYTES_A_UNIT > maxLength && Buffer.byteLength(text) > maxLength) {
    return violation(`is longer than ${maxLength} bytes`)
  }
  if (minGraphemes !== undefined && (text.length < minGraphemes || countGraphemes(text) < minGraphemes)) {
    return violation(`is shorter than ${minGraphemes} graphemes`)
  }
  if (maxGraphemes !== undefined && text.length > maxGraphemes && countGraphemes(text) > maxGraphemes) {
    return violation(`is longer than ${maxGraphemes} graphemes`)
  }
  return undefined
}

export function checkInteger(definition: IntegerDefinition): Check {
  const fixed = checkFixed(definition)
  if (fixed) return fixed
  const { minimum = -Infinity, maximum = Infinity } = definition
  return (value) => {
    if (!Number.isSafeInteger(value)) return violation('is not an integer within 53 bits')
    if ((value as number) < minimum) return violation(`is less than ${minimum}`)
    return (value as number) > maximum ? violation(`is more than ${maximum}`) : undefined
  }
}

export function checkBoolean(definition: BooleanDefinition): Check {
  return checkFixed(definition) ?? ((value) => (typeof value === 'boolean' ? undefined : violation('is not a boolean')))
}

/**
 * A `const` or an `enum` replaces every other constraint. With a `const` that is not in the `enum`, no value is valid.
 */
function checkFixed(definition: { const?: unknown; enum?: readonly unknown[] }): Check | undefined {
  const fixed = definition.const ?? undefined
  const values = definition.enum ?? undefined
  if (fixed === undefined && values === undefined) return undefined
  const allowed = fixed === undefined ? values! : values?.includes(fixed) === false ? [] : [fixed]
  return (value) => (allowed.includes(value) ? undefined : violation(`is not one of ${JSON.stringify(allowed)}`))
}

export function checkBytes({ minLength = 0, maxLength = Infinity }: BytesDefinition): Check {
  return (value) => {
    const length = byteLength(value)
    if (length === undefined) return violation('is not bytes')
    if (length < minLength) return violation(`is shorter than ${minLength} bytes`)
    return length > maxLength ? violation(`is longer than ${maxLength} bytes`) : undefined
  }
}

const BLOB_KEYS = 4

/**
 * Accepts blobs of the current form only. The legacy form (`cid`, `mimeType`) is refused, as by the official indexer.
 */
export function checkBlob({ accept, maxSize = Infinity }: BlobDefinition): Check {
  const accepts = acceptor(accept)
  return (value) => {
    if (!isObject(value) || value.$type !== 'blob') return violation('is not a blob')
    const { mimeType, size } = value
    if (typeof mimeType !== 'string' || !mimeType.includes('/')) return violation('has no MIME type')
    if (!Number.isSafeInteger(size) || (size as number) < 0) return violation('has no size')
    if (!isRawLink(value.ref)) return violation('does not refer to raw data')
    if (Object.keys(value).length !== BLOB_KEYS) return violation('has keys that a blob has not')
    if (!accepts(mimeType)) return violation(`is not of type ${accept!.join(', ')}`)
    return (size as number) > maxSize ? violation(`is larger than ${maxSize} bytes`) : undefined
  }
}

/** Compares MIME types as they are written, with case and parameters. `image/*` accepts every type with that prefix. */
function acceptor(accept: readonly string[] | undefined): (mimeType: string) => boolean {
  if (accept === undefined || accept.includes('*/*')) return () => true
  const prefixes = accept.filter((pattern) => pattern.endsWith('/*')).map((pattern) => pattern.slice(0, -1))
  return (mimeType) => accept.includes(mimeType) || prefixes.some((prefix) => mimeType.startsWith(prefix))
}

/** How values of records become values of columns. */
import { normalizeDatetimeAlways } from '@atproto/syntax'

/** The normal form of a timestamp (ISO 8601, milliseconds, Z), by the official AppView's rules; the epoch for one that means nothing. */
export function normalizeDatetime(text: string): string {
  if (NORMAL.test(text)) return text
  // What has the form must also survive parsing: "2023-02-31T…" is no date.
  if (text.length === 24 && text.endsWith('Z')) {
    const date = new Date(text)
    if (!Number.isNaN(date.getTime()) && date.toISOString() === text) return text
  }
  return normalizeDatetimeAlways(text)
}

/** Nearly every timestamp: the normal form, on a day that every month has. Making a date of each would be 2 % of the indexer's CPU. */
const NORMAL = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/

/**
 * The same value without U+0000 in its strings. What the lexicon took for something that it does not know stays so: a key with U+0000 goes, with its value, and `$type` is left
 * as it is. Cleaned, they would be keys and types that nobody has looked at.
 */
export function withoutNul<T>(value: T): T {
  if (typeof value === 'string') return value.replaceAll('\u0000', '') as T
  if (Array.isArray(value)) return value.map(withoutNul) as T
  if (typeof value !== 'object' || value === null) return value
  const known = Object.entries(value).filter(([key]) => !key.includes('\u0000'))
  return Object.fromEntries(known.map(([key, v]) => [key, key === '$type' ? v : withoutNul(v)])) as T
}

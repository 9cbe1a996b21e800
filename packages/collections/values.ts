/** Converts values of records to values of columns. */
import { normalizeDatetimeAlways } from '@atproto/syntax'

/**
 * The normal form of a timestamp (ISO 8601, milliseconds, Z), by the official AppView's rules. Text that is no
 * timestamp becomes the epoch.
 */
export function normalizeDatetime(text: string): string {
  if (NORMAL.test(text)) return text
  // Text of the right form may still be no date: "2023-02-31T…".
  if (text.length === 24 && text.endsWith('Z')) {
    const date = new Date(text)
    if (!Number.isNaN(date.getTime()) && date.toISOString() === text) return text
  }
  return normalizeDatetimeAlways(text)
}

/**
 * Matches nearly every timestamp: the normal form, with a day of the month from 1 to 28, so that the date must exist.
 * To construct a `Date` of each would take 2 % of the indexer's CPU.
 */
const NORMAL = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z$/

/**
 * The same value without U+0000 in its strings (PostgreSQL's text cannot hold it). A key with U+0000 is removed
 * together with its value, and `$type` is not changed.
 *
 * The record was validated before this. The lexicon does not know a key or a type with U+0000, so nothing has checked
 * the value behind it. Were U+0000 only cut out of it, `re\0ply` would become the known key `reply` with an unchecked
 * value.
 */
export function withoutNul<T>(value: T): T {
  if (typeof value === 'string') return value.replaceAll('\u0000', '') as T
  if (Array.isArray(value)) return value.map(withoutNul) as T
  if (typeof value !== 'object' || value === null) return value
  const known = Object.entries(value).filter(([key]) => !key.includes('\u0000'))
  return Object.fromEntries(known.map(([key, v]) => [key, key === '$type' ? v : withoutNul(v)])) as T
}

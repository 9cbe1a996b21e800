/** How values of records become values of columns. */
import { normalizeDatetimeAlways } from '@atproto/syntax'

/** The normal form of a timestamp (ISO 8601, milliseconds, Z), by the official AppView's rules; the epoch for one that means nothing. */
export function normalizeDatetime(text: string): string {
  // Nearly every timestamp has the normal form already. It must also survive parsing: "2023-02-31T…" has the form and is no date.
  if (text.length === 24 && text.endsWith('Z')) {
    const date = new Date(text)
    if (!Number.isNaN(date.getTime()) && date.toISOString() === text) return text
  }
  return normalizeDatetimeAlways(text)
}

/** The same value without U+0000 in its strings. */
export function withoutNul<T>(value: T): T {
  if (typeof value === 'string') return value.replaceAll('\u0000', '') as T
  if (Array.isArray(value)) return value.map(withoutNul) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, v]) => [withoutNul(key), withoutNul(v)])) as T
}

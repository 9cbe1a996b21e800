/**
 * Reads a host's rate limits, and the time after which it may be asked again, from its response headers. The results
 * are bounded, whatever the headers contain. Pure.
 */
import type { HttpResponse } from './http.ts'

export interface RateLimit {
  limit: number | undefined
  remaining: number | undefined
  /** Milliseconds until the rate limit's window starts anew, at most 330,000. */
  resetMs: number | undefined
}

/**
 * The longest time for which a host can keep us away. A header may say a day, or have milliseconds where seconds are
 * meant. The windows of real hosts are 300 s.
 */
const MAX_RETRY_MS = 330_000

/**
 * The host's limits from the `RateLimit-*` headers. The reset may be a number of seconds or a time; the result is never
 * more than `MAX_RETRY_MS` away.
 */
export function rateLimitOf(headers: HttpResponse['headers'], nowMs: number): RateLimit | undefined {
  const limit = numberOf(headers['ratelimit-limit'])
  const remaining = numberOf(headers['ratelimit-remaining'])
  const reset = numberOf(headers['ratelimit-reset'])
  if (limit === undefined && remaining === undefined && reset === undefined) return undefined
  const isTime = reset !== undefined && reset > 1e9
  const resetMs = reset === undefined ? undefined : withinReason(isTime ? reset * 1000 - nowMs : reset * 1000)
  return { limit, remaining, resetMs }
}

/** The start of an HTTP date. `Date.parse` alone accepts too much: "1.5" is a day in 2001. */
const HTTP_DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)/

/** `Retry-After`: seconds, or a date. */
export function retryAfterOf(headers: HttpResponse['headers'], nowMs: number): number | undefined {
  const value = headers['retry-after']
  if (typeof value !== 'string') return undefined
  const seconds = numberOf(value)
  const ms = seconds === undefined ? Date.parse(HTTP_DATE.test(value) ? value : '') - nowMs : seconds * 1000
  return Number.isNaN(ms) ? undefined : withinReason(ms)
}

function withinReason(waitMs: number): number {
  return Math.min(Math.max(0, waitMs), MAX_RETRY_MS)
}

function numberOf(value: string | string[] | undefined): number | undefined {
  return typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : undefined
}

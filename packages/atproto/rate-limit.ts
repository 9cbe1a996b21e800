/** What a host's headers say of its limits, and when it wants to be asked again: within reason, whatever is in them. Pure. */
import type { HttpResponse } from './http.ts'

export interface RateLimit {
  limit: number | undefined
  remaining: number | undefined
  /** From now until the window starts anew, or 330 s when the host says more. */
  resetMs: number | undefined
}

/** No host may keep us away for longer, whatever it says: a day, or milliseconds where seconds are meant. The hosts' windows are 300 s. */
const MAX_RETRY_MS = 330_000

/** The host's limits, from the `RateLimit-*` headers; a reset may be seconds from now or a time, and is never more than `MAX_RETRY_MS` away. */
export function rateLimitOf(headers: HttpResponse['headers'], nowMs: number): RateLimit | undefined {
  const limit = numberOf(headers['ratelimit-limit'])
  const remaining = numberOf(headers['ratelimit-remaining'])
  const reset = numberOf(headers['ratelimit-reset'])
  if (limit === undefined && remaining === undefined && reset === undefined) return undefined
  const isTime = reset !== undefined && reset > 1e9
  const resetMs = reset === undefined ? undefined : withinReason(isTime ? reset * 1000 - nowMs : reset * 1000)
  return { limit, remaining, resetMs }
}

/** As HTTP writes dates. `Date.parse` takes more for one: "1.5" is a day in 2001. */
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

/** The limits of hosts: a default, and rules for hosts by name or domain. */

export interface HostLimits {
  /** The most requests at the same time. */
  concurrency: number
  /** The most requests a second, in the long run. */
  perSecond: number
  /** The most requests that follow each other at once after a pause. */
  burst: number
}

export interface HostRule {
  /** A host, or `*.domain`. */
  host: string
  concurrency: number
  /** Requests in `WINDOW_SECONDS`; absent: the default. */
  requests?: number
}

/** The length of the window in which hosts count requests, in seconds. */
export const WINDOW_SECONDS = 300

/**
 * Reads rules such as `*.host.bsky.network=32/2700`. `problem` says what is wrong with the first text that is no rule.
 */
export function parseHostRules(texts: readonly string[]): { rules: HostRule[]; problem?: string } {
  const rules: HostRule[] = []
  for (const text of texts) {
    const [, host, concurrency, requests] = /^([^=]+)=([1-9]\d*)(?:\/([1-9]\d*))?$/.exec(text) ?? []
    if (host === undefined)
      return { rules, problem: `has no rule of the form host=32 or *.domain=32/2700 in "${text}"` }
    rules.push({
      host: host.toLowerCase(),
      concurrency: Number(concurrency),
      ...(requests !== undefined && { requests: Number(requests) }),
    })
  }
  return { rules }
}

/**
 * Returns the limits of each host. `fallback` is for hosts that no rule names. Shards do not know of each other, so
 * each takes its part of a limit. Together they never ask more than is allowed, except of hosts that allow fewer
 * requests at the same time than there are shards: each shard may send one.
 */
export function hostLimits(
  rules: readonly HostRule[],
  fallback: Omit<HostRule, 'host'> & { requests: number },
  shards = 1,
) {
  const part = (limit: number): number => Math.max(1, Math.floor(limit / shards))
  return (host: string): HostLimits => {
    const rule = rules.find((rule) => fits(rule.host, host))
    return toLimits(part(rule?.concurrency ?? fallback.concurrency), part(rule?.requests ?? fallback.requests))
  }
}

/**
 * A token bucket that never lets more than `requests` through in any window: what it holds at once and what flows in
 * during the window add up to that.
 */
function toLimits(concurrency: number, requests: number): HostLimits {
  const burst = Math.max(1, Math.min(50, Math.floor(requests / 10)))
  return { concurrency, burst, perSecond: Math.max(requests - burst, 1) / WINDOW_SECONDS }
}

function fits(pattern: string, host: string): boolean {
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern
}

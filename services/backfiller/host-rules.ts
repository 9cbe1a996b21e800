/** The limits of a host: a default, and rules for hosts by name or domain. */

export interface HostLimits {
  /** Requests at the same time. */
  concurrency: number
  /** Requests a second in the long run. */
  perSecond: number
  /** Requests at once after a pause. */
  burst: number
}

export interface HostRule {
  /** A host, or `*.domain`. */
  host: string
  concurrency: number
  /** Requests in `WINDOW_SECONDS`; absent: the default. */
  requests?: number
}

/** The window in which hosts count. */
export const WINDOW_SECONDS = 300

/** Reads `*.host.bsky.network=32/2700`; `problem` says what is wrong with the first one that cannot be read. */
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
 * The limits of a host; `fallback` for those that no rule names. Shards do not know of each other, so each takes its part: together they never ask more
 * than is allowed, but for hosts that allow fewer requests at the same time than there are shards.
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
 * A bucket that never lets more than `requests` through in any window: what it holds at once and what flows in during the
 * window add up to that.
 */
function toLimits(concurrency: number, requests: number): HostLimits {
  const burst = Math.max(1, Math.min(50, Math.floor(requests / 10)))
  return { concurrency, burst, perSecond: Math.max(requests - burst, 1) / WINDOW_SECONDS }
}

function fits(pattern: string, host: string): boolean {
  return pattern.startsWith('*.') ? host.endsWith(pattern.slice(1)) : host === pattern
}

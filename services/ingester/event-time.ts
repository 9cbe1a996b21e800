/**
 * When an identity or account event happened: as its host says, but never later than we received it. Nobody signs these times, and of an account's events the
 * latest one counts: an event that is dated in the future would win over all that happens until then.
 */

/** @param said by the host; what is no time is now. @param nowMs our clock, Unix ms. @returns ISO 8601 in UTC */
export function eventTime(said: string, nowMs: number): string {
  const ms = Date.parse(said)
  return new Date(ms <= nowMs ? ms : nowMs).toISOString()
}

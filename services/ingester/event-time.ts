/**
 * When an identity or account event happened: as its host says, but never later than we received it. Nobody signs these
 * times, and of an account's events the latest one counts. So an event that is dated in the future would win over all
 * that happens until then.
 */

/**
 * The time of an event, ISO 8601 in UTC.
 * @param said the time that the host says; a text that is no time counts as now
 * @param nowMs our clock, Unix ms
 */
export function eventTime(said: string, nowMs: number): string {
  const ms = Date.parse(said)
  return new Date(ms <= nowMs ? ms : nowMs).toISOString()
}

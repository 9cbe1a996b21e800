/** The hosts from which repositories are fetched, as `status` and `backfill status` show them. */
import { duration, type Output } from './output.ts'
import type { HostState } from './redis-state.ts'

/** Hosts that have a request under way, are waited for, failed of late, or answer 429. */
export function busyHosts(hosts: readonly HostState[]): HostState[] {
  return hosts.filter(
    ({ underWay, parkedSeconds, failures, limitedSeconds }) => underWay + parkedSeconds + failures + limitedSeconds > 0,
  )
}

/** One line a host; a line that says so when there are none. */
export function showHosts(out: Output, hosts: readonly HostState[]): void {
  const rows = hosts.map(({ host, underWay, parkedSeconds, failures, limitedSeconds }) => [
    host,
    underWay,
    duration(parkedSeconds || undefined),
    failures,
    duration(limitedSeconds || undefined),
  ])
  out.table(['host', 'under way', 'parked for', 'failures', '429 for'], rows, 'no host is asked at the moment')
}

/** What every role that consumes streams counts under one name. */
import type { Metrics } from '@sluice/runtime/metrics.ts'

/** Declares the counter of lost groups, for the streams that this process reads; call once per process. */
export function countLostGroups(metrics: Metrics, streams: readonly string[]): (stream: string) => void {
  const lost = metrics.counter({
    name: 'sluice_stream_groups_lost_total',
    help: 'How often a stream or its group had vanished (Redis flushed, or a failover). Entries may be lost.',
    labels: { stream: streams },
    configured: ['stream'],
  })
  return (stream) => lost.inc(1, { stream })
}

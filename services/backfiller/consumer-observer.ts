/** Reports what happens to entries of the queue between Redis and this process: metrics, log lines, and /ready. */
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import { countLostGroups } from '@sluice/streams/consumer-metrics.ts'
import type { ConsumerObserver } from '@sluice/streams/consumer.ts'
import type { Progress } from './progress.ts'

export interface Surroundings {
  log: Logger
  metrics: Metrics
  readiness: Readiness
  progress: Progress
}

/** Returns a function that makes the observer of one stream. Declares metrics; call once per process. */
export function observeConsumers(
  streams: readonly string[],
  { log, metrics, readiness, progress }: Surroundings,
): (stream: string) => Partial<ConsumerObserver> {
  const countLost = countLostGroups(metrics, streams)
  return (stream) => ({
    ...progress.consumerObserver,
    trouble(error, retryMs) {
      readiness.block(`redis ${stream}`, error.message)
      logRetry(log, retryMs, `reading ${stream} failed`, error)
    },
    recovered: () => readiness.clear(`redis ${stream}`),
    groupLost() {
      countLost(stream)
      log.error(
        { stream },
        `${stream} or its consumer group was gone, and is made anew. Entries may be lost: \`sluice sweep\` finds what is missing`,
      )
    },
    retired: (consumers) => log.info({ stream, consumers }, 'forgot consumers that went away'),
  })
}

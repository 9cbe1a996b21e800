/**
 * Waits until PostgreSQL takes a batch again: the batch stays in memory, its entries stay pending, and /ready says why.
 */
import { retry, sleep, type BackoffPolicy, type Retry } from '@sluice/runtime/backoff.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import type { YieldTurn } from '@sluice/streams/consumer.ts'

const OUTAGE_BACKOFF: BackoffPolicy = { baseMs: 100, capMs: 10_000, healthyAfterMs: 10_000 }

export interface Outages {
  log: Logger
  readiness: Readiness
  retries: { inc(by: number): void }
  /**
   * For each batch that waits: why. All of them are one condition in /ready. It ends when the last of them ends, not
   * when a batch of another lane succeeds.
   */
  reasons: Map<symbol, string>
}

/**
 * Calls `act` until it succeeds or fails for good.
 * @param yieldTurn runs the wait before the next try. A batch that waits for ever must not block the other streams of
 * its lane
 * @throws AbortError when the signal aborts between tries
 */
export async function waitOut<T>(
  { log, readiness, retries, reasons }: Outages,
  signal: AbortSignal,
  act: () => Promise<T>,
  yieldTurn: YieldTurn,
): Promise<T> {
  const batch = Symbol('batch')
  try {
    const onWait = ({ error, delayMs, attempt }: Retry) => {
      reasons.set(batch, error.message)
      retries.inc(1)
      readiness.block('postgres', error.message)
      logRetry(log, delayMs, 'PostgreSQL does not take a batch; nothing is lost', error, { attempt })
    }
    return await retry(signal, OUTAGE_BACKOFF, act, onWait, async (ms) => yieldTurn(() => sleep(ms, signal)))
  } finally {
    // The condition ends also for a batch that was refused in the end: PostgreSQL has looked at it. It does not end for
    // a batch that a stop has interrupted.
    if (reasons.delete(batch) && !signal.aborted) {
      const [left] = reasons.values()
      if (left !== undefined) readiness.block('postgres', left)
      else {
        readiness.clear('postgres')
        log.info('PostgreSQL takes batches again')
      }
    }
  }
}

/** Waits out whatever keeps the database from us: the batch stays in hand, its entries pending, the process says that it is not ready and why. */
import { retry, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'

const OUTAGE_BACKOFF: BackoffPolicy = { baseMs: 100, capMs: 10_000, healthyAfterMs: 10_000 }

export interface Outages {
  log: Logger
  readiness: Readiness
  retries: { inc(by: number): void }
}

/** Calls `act` until it succeeds or fails for good. @throws AbortError when the signal aborts between tries */
export async function waitOut<T>(
  { log, readiness, retries }: Outages,
  signal: AbortSignal,
  act: () => Promise<T>,
): Promise<T> {
  let waited = false
  const result = await retry(signal, OUTAGE_BACKOFF, act, ({ error, delayMs, attempt }) => {
    waited = true
    retries.inc(1)
    readiness.block('postgres', error.message)
    logRetry(log, delayMs, 'PostgreSQL does not take a batch; nothing is lost', error, { attempt })
  })
  if (waited) {
    readiness.clear('postgres')
    log.info('PostgreSQL takes batches again')
  }
  return result
}

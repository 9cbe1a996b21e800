/**
 * Follows all labelers, each by itself: one that fails is retried with growing waits, and holds up no other. There may
 * be none.
 */
import { Backoff, sleep, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { describeError, isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Found } from './labeler-discovery.ts'

export interface LabelsOptions {
  log: Logger
  labelers: readonly Found[]
  /** Calls `follow` for labelers that are found later. Ends with the signal. */
  discover?: (follow: (found: Found) => void, signal: AbortSignal) => Promise<void>
  backoff?: BackoffPolicy
}

const BACKOFF: BackoffPolicy = { baseMs: 1_000, capMs: 60_000, healthyAfterMs: 60_000 }

export class Labels implements Service {
  readonly name = 'labels'
  readonly #options: LabelsOptions

  constructor(options: LabelsOptions) {
    this.#options = options
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const stopped = AbortSignal.any([signal, stop.signal])
    const running = new Set<Promise<void>>()
    const failed = Promise.withResolvers<never>()
    failed.promise.catch(() => {})
    const start = ({ host, labeler }: Found): void => {
      const following = this.#follow(host, labeler, stopped)
        .catch((error: unknown) => {
          failed.reject(error)
          stop.abort()
        })
        .finally(() => running.delete(following))
      running.add(following)
    }
    for (const each of this.#options.labelers) start(each)
    try {
      await this.#options.discover?.(start, stopped)
      if (!stopped.aborted) await new Promise((resolve) => stopped.addEventListener('abort', resolve, { once: true }))
    } finally {
      stop.abort()
      await Promise.all(running)
    }
    if (!signal.aborted) await failed.promise
  }

  /**
   * Follows one labeler until the signal. Returns earlier when its host may not be asked.
   * @throws FatalError
   */
  async #follow(host: string, labeler: Found['labeler'], signal: AbortSignal): Promise<void> {
    const { log, backoff: policy = BACKOFF } = this.#options
    const backoff = new Backoff(policy)
    while (!signal.aborted) {
      backoff.healthy()
      try {
        await labeler.run(signal)
      } catch (error) {
        if (isAbort(error) && signal.aborted) return
        if (error instanceof RefusedError) {
          log.warn(
            { host, error: describeError(error) },
            'this labeler cannot be asked, and is not followed until the next start',
          )
          return
        }
        if (!(error instanceof TransientError)) throw error
        const delayMs = backoff.nextMs()
        logRetry(log, delayMs, `following labeler ${host} failed`, error)
        await sleep(delayMs, signal).catch(() => {})
      }
    }
  }
}

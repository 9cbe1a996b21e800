/**
 * A storm of resyncs: within a minute very many repositories that were complete may lack something, and are not
 * requested, because the limit turns them away (resync-limit.ts). The relay, or Redis, has lost something, and what is
 * missing waits for the accounts' next commits or for the sweep. One incident for each storm, at its beginning: it
 * lasts until a minute brings fewer.
 */
import { DEFAULT_BACKOFF, retry } from '@sluice/runtime/backoff.ts'
import { describeError, isAbort } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { SourceIncident } from './relay.ts'

export interface ResyncStormOptions {
  log: Logger
  recordIncident: (incident: SourceIncident) => Promise<void>
}

/** This many within a minute are a storm. A minute of the default limit has room for 12,000 requests. */
export const STORM_RESYNCS = 1_000
const WINDOW_MS = 60_000

export class ResyncStorm {
  readonly #options: ResyncStormOptions
  readonly #signal: AbortSignal
  #windowAtMs = -Infinity
  #count = 0
  #isTold = false

  /** @param signal ends the tries to record an incident */
  constructor(options: ResyncStormOptions, signal: AbortSignal) {
    this.#options = options
    this.#signal = signal
  }

  /** So many were turned away. @param nowMs by a clock that nobody sets */
  turnedAway(resyncs: number, nowMs: number): void {
    if (resyncs === 0) return
    this.#begin(nowMs)
    this.#count += resyncs
    if (this.#isTold || this.#count < STORM_RESYNCS) return
    this.#isTold = true
    void this.#tell(this.#count)
  }

  /** Begins another minute if this one is over, and with it another storm if this one was quiet. */
  #begin(nowMs: number): void {
    const sinceMs = nowMs - this.#windowAtMs
    if (sinceMs < WINDOW_MS) return
    if (this.#count < STORM_RESYNCS || sinceMs >= 2 * WINDOW_MS) this.#isTold = false
    this.#windowAtMs = nowMs
    this.#count = 0
  }

  async #tell(resyncs: number): Promise<void> {
    const { log, recordIncident } = this.#options
    const what = `${resyncs} repositories that may lack something were not requested within a minute: more chains broke than INGESTER_RESYNCS_PER_SECOND, or the room in the stream of repositories, allows`
    const action =
      'Each is requested with its next commit, or by the next sweep; `sluice sweep` brings them sooner. Look at what broke the chains: sluice_ingester_resyncs_total, by cause'
    try {
      const record = () => recordIncident({ kind: 'resync-storm', what, action, isLoss: false })
      await retry(this.#signal, DEFAULT_BACKOFF, record, ({ error, delayMs }) =>
        logRetry(log, delayMs, 'recording an incident failed', error),
      )
    } catch (error) {
      if (!isAbort(error)) log.error({ error: describeError(error), what }, 'an incident was not recorded')
    }
  }
}

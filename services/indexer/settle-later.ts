/**
 * Settles, beside the data path, what batches have put off: everything that must be derived again below a post that has
 * more replies than a batch judges itself. This happens soon after the batch. Until then readers see what was derived
 * before it.
 *
 * Every step is durable. If the process dies, its claim expires, and the worker that takes the claim next begins again.
 * What is too much for one claim is put off once more.
 */
import type { Index } from '@sluice/indexing/apply-batch.ts'
import {
  claimLater,
  giveBack,
  holdClaim,
  LATER_QUEUES,
  overdueLater,
  settleClaim,
  waitingLater,
  type LaterClaim,
  type LaterQueue,
} from '@sluice/indexing/settle-later.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { runWorkers } from './queue-workers.ts'

export interface LaterSettlingOptions {
  index: Index
  log: Logger
  metrics: Metrics
  pollMs?: number
  /**
   * How long a claim lasts. It is renewed while its work goes on; after the death of a process, others wait this long.
   */
  claimMs?: number
  /** From the end of one claim to the next claim of the same record. */
  againMs?: number
}

/**
 * Workers of each queue. Somebody who edits a post all the time delays only others who do so, and the rest of work that
 * was too much for one claim: both are in `again`. There are no more workers, because each holds a connection all the
 * time, and a walk through 200,000 replies holds it for seconds; labels and accounts share these connections.
 */
const WORKERS: Record<LaterQueue, number> = { first: 1, again: 1 }

export class LaterSettling implements Service {
  readonly name = 'settling'
  readonly #options: Required<LaterSettlingOptions>
  readonly #settled

  constructor(options: LaterSettlingOptions) {
    this.#options = { pollMs: 500, claimMs: 300_000, againMs: 10_000, ...options }
    const { index, metrics } = this.#options
    metrics.gauge({
      name: 'sluice_settle_later_waiting',
      help: 'Records on which too many others depend for a batch to settle them all, so that they are settled later; counted up to 10,000. Until then readers see the earlier result. Rising for long: somebody edits posts with many replies, or PostgreSQL is slow.',
      collect: async (gauge) => gauge.set(await waitingLater(index.db)),
    })
    metrics.gauge({
      name: 'sluice_settle_later_overdue_seconds',
      help: 'For how long the record that waits longest to be settled later has been due. first: it waits for the first time. again: it was put off again while it was being settled, it is the rest of what was too much for one claim, or the process that settled it died.',
      labels: { queue: LATER_QUEUES },
      collect: async (gauge) => {
        const overdue = await overdueLater(index.db, new Date())
        for (const queue of LATER_QUEUES) gauge.set(overdue[queue], { queue })
      },
    })
    this.#settled = metrics.counter({
      name: 'sluice_settled_later_total',
      help: 'Posts that changed when they were settled later.',
    })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { pollMs, claimMs, index } = this.#options
    await runWorkers(
      {
        workers: WORKERS,
        pollMs,
        claimMs,
        claim: (wanted) => claimLater(index.db, wanted),
        work: (claim, _queue, ends) => this.#work(claim, ends),
      },
      signal,
    )
  }

  async #work(claim: LaterClaim, signal: AbortSignal): Promise<void> {
    const { index, log, againMs, claimMs } = this.#options
    const hold = setInterval(() => void this.#hold(claim), claimMs / 3)
    try {
      const changes = await settleClaim(index.db, index.collections, claim, { signal, againMs })
      this.#settled.inc(changes)
      log.debug({ uri: claim.uri, since: claim.since, changes }, 'settled what was put off')
    } catch (error) {
      // At a stop: give the claim back, so that the next process need not wait until it expires.
      if (signal.aborted) await giveBack(index.db, claim)
      throw error
    } finally {
      clearInterval(hold)
    }
  }

  async #hold(claim: LaterClaim): Promise<void> {
    const { index, log, claimMs } = this.#options
    try {
      await holdClaim(index.db, claim, new Date(Date.now() + claimMs).toISOString())
    } catch (err) {
      log.warn(
        { err, uri: claim.uri },
        'the claim of a record that is being settled could not be extended: when it runs out, another worker may begin the same work',
      )
    }
  }
}

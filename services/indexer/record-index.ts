/**
 * The index of records, as the data path uses it: applies a batch, however long the database is away, and counts what
 * happened.
 */
import { applyBatch, type Applied, type Index } from '@sluice/indexing/apply-batch.ts'
import { REFUSALS } from '@sluice/indexing/prepare.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { Metrics } from '@sluice/runtime/metrics.ts'
import type { YieldTurn } from '@sluice/streams/consumer.ts'
import type { RefusalLog } from './refusal-log.ts'
import { waitOut, type Outages } from './waiting.ts'

const OUTCOMES = ['inserted', 'replaced', 'removed', 'stale', 'settled'] as const

export class RecordIndex {
  readonly #index: Index
  readonly #outages: Outages
  readonly #refusals: Pick<RefusalLog, 'record'>
  readonly #metrics: ReturnType<typeof declareMetrics>

  constructor(index: Index, outages: Outages, refusals: Pick<RefusalLog, 'record'>, metrics: Metrics) {
    this.#index = index
    this.#outages = outages
    this.#refusals = refusals
    this.#metrics = declareMetrics(metrics)
  }

  /**
   * @throws RefusedError when an event's data cannot be stored; FatalError; AbortError when the signal aborts during an
   * outage, or in the middle of a batch that removes more records than one transaction may
   */
  async apply(events: readonly StreamEvent[], signal: AbortSignal, yieldTurn: YieldTurn): Promise<void> {
    const startedAt = performance.now()
    const applied = await waitOut(this.#outages, signal, () => this.#applyOnce(events, signal, yieldTurn), yieldTurn)
    this.#metrics.seconds.observe((performance.now() - startedAt) / 1000)
    this.#metrics.events.inc(events.length)
    for (const outcome of OUTCOMES) this.#metrics.records.inc(applied[outcome], { outcome })
    for (const [reason, refused] of Map.groupBy(applied.refused, (r) => r.reason)) {
      this.#metrics.refused.inc(refused.length, { reason })
    }
    for (const refused of applied.refused) this.#refusals.record(refused)
  }

  /**
   * Applies a batch once. A `constraint` refusal may be caused by leftover rows: rows that have no record, which exist
   * only in a database that another indexer wrote before Sluice. To clear them costs a delete in every table, so that
   * is done only after such a refusal.
   *
   * Emptying a repository of 400,000 records takes 105 s. The batch yields its turn between parts, so live events of
   * its lane need not wait for the end.
   */
  async #applyOnce(events: readonly StreamEvent[], signal: AbortSignal, yieldTurn: YieldTurn): Promise<Applied> {
    const between = (): Promise<void> => yieldTurn(async () => {})
    try {
      return await applyBatch(this.#index, events, { signal, between })
    } catch (error) {
      if (!(error instanceof RefusedError && error.reason === 'constraint')) throw error
      return applyBatch(this.#index, events, { clearLeftovers: true, signal, between })
    }
  }
}

function declareMetrics(metrics: Metrics) {
  return {
    events: metrics.counter({
      name: 'sluice_indexer_events_total',
      help: 'Events that were applied, or brought nothing new. Not rising while streams are not empty: the index stands still.',
    }),
    records: metrics.counter({
      name: 'sluice_indexer_records_total',
      help: 'What events did to records. settled: posts that were derived again after a commit, because they depend on records of other accounts, and that changed.',
      labels: { outcome: OUTCOMES },
    }),
    refused: metrics.counter({
      name: 'sluice_indexer_refused_records_total',
      help: 'Records that are not indexed, by reason: they do not match their lexicon, refer to what their account does not own, or belong to a collection that is not indexed.',
      labels: { reason: REFUSALS },
    }),
    seconds: metrics.histogram({
      name: 'sluice_indexer_batch_seconds',
      help: 'Seconds from taking a batch to the commit of its effect, outages included. Rising: PostgreSQL is the bottleneck.',
      buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    }),
  }
}

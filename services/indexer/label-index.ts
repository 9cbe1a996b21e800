/** The index of labels, as the data path uses it. */
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { applyLabels } from '@sluice/indexing/apply-labels.ts'
import type { CounterOf, Metrics } from '@sluice/runtime/metrics.ts'
import type { YieldTurn } from '@sluice/streams/consumer.ts'
import { waitOut, type Outages } from './waiting.ts'

export class LabelIndex {
  readonly #db: DatabasePool
  readonly #outages: Outages
  readonly #labels: CounterOf<{ outcome: readonly ['changed', 'stale'] }>

  constructor(db: DatabasePool, outages: Outages, metrics: Metrics) {
    this.#db = db
    this.#outages = outages
    this.#labels = metrics.counter({
      name: 'sluice_indexer_labels_total',
      help: 'Labels that changed a row, and labels that brought nothing new.',
      labels: { outcome: ['changed', 'stale'] },
    })
  }

  /**
   * @throws RefusedError when a label's data cannot be stored; FatalError; AbortError when the signal aborts during an
   * outage
   */
  async apply(events: readonly LabelStreamEvent[], signal: AbortSignal, yieldTurn: YieldTurn): Promise<void> {
    const { changed } = await waitOut(this.#outages, signal, () => applyLabels(this.#db, events), yieldTurn)
    this.#labels.inc(changed, { outcome: 'changed' })
    this.#labels.inc(events.length - changed, { outcome: 'stale' })
  }
}

/**
 * The data path: takes batches of events from a stream and applies them to the index. An entry is acked when its effect
 * is durable, never earlier.
 */
import { applyOrBisect, DefectBudget } from '@sluice/indexing/bisect.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { YieldTurn, Consumer } from '@sluice/streams/consumer.ts'

/** The index that stores the events of one kind. */
interface EventIndex<E> {
  /** @throws RefusedError when an event's data cannot be stored */
  apply(events: readonly E[], signal: AbortSignal, yieldTurn: YieldTurn): Promise<void>
}

/**
 * Runs `lanes` workers on one stream until the signal. A batch is acked after its transaction has committed. An event
 * that cannot be applied becomes a dead letter.
 */
export function indexStream<E extends object>(consumer: Consumer<E>, index: EventIndex<E>, lanes: number): Service {
  const defectBudget = new DefectBudget()
  return {
    name: consumer.stream,
    run: (signal) =>
      consumer.run(signal, lanes, async (batches) => {
        for await (const { events, refuse, yieldTurn, ack } of batches) {
          await applyOrBisect(events, (part) => index.apply(part, signal, yieldTurn), refuse, defectBudget)
          await ack()
        }
      }),
  }
}

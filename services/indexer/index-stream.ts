/** The data path: batches of events from a stream into the index. An entry is acked when its effect is durable, never earlier. */
import { applyOrBisect, DefectBudget } from '@sluice/indexing/bisect.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { YieldTurn, Consumer } from '@sluice/streams/consumer.ts'

/** Where events of one kind go. */
interface EventIndex<E> {
  /** @throws RefusedError when an event's data cannot be stored */
  apply(events: readonly E[], signal: AbortSignal, yieldTurn: YieldTurn): Promise<void>
}

/**
 * Runs `lanes` workers over one stream until the signal. A batch is acked after its transaction; an event that cannot be applied becomes
 * a dead letter.
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

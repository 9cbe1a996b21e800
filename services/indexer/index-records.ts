/** The data path: batches of events from a stream into the index. An entry is acked when its effect is durable, and not before. */
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { applyOrBisect, Witnesses } from '@sluice/indexing/bisect.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Consumer } from '@sluice/streams/consumer.ts'
import type { RecordIndex } from './record-index.ts'

export function indexRecords(consumer: Consumer<StreamEvent>, index: RecordIndex, lanes: number): Service {
  const witnesses = new Witnesses()
  return {
    name: consumer.stream,
    run: (signal) =>
      consumer.run(signal, lanes, async (batches) => {
        for await (const { events, refuse, aside, ack } of batches) {
          await applyOrBisect(events, (part) => index.apply(part, signal, aside), refuse, witnesses)
          await ack()
        }
      }),
  }
}

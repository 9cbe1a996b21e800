/** The same path for labels. */
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import { applyOrBisect, Witnesses } from '@sluice/indexing/bisect.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Consumer } from '@sluice/streams/consumer.ts'
import type { LabelIndex } from './label-index.ts'

export function indexLabels(consumer: Consumer<LabelStreamEvent>, index: LabelIndex): Service {
  const witnesses = new Witnesses()
  return {
    name: consumer.stream,
    run: (signal) =>
      consumer.run(signal, 1, async (batches) => {
        for await (const { events, refuse, aside, ack } of batches) {
          await applyOrBisect(events, (part) => index.apply(part, signal, aside), refuse, witnesses)
          await ack()
        }
      }),
  }
}

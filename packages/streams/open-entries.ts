/**
 * Decodes entries into events when their batch begins. An entry that is not a valid event leaves the batch and becomes
 * a dead letter.
 */
import { InvalidEntryError, type EntryCodec } from '@sluice/events/codec.ts'
import { describeError } from '@sluice/runtime/errors.ts'
import type { Refusal } from './consumer.ts'
import type { Held } from './lanes.ts'

export interface Opened<E> {
  held: Held<E>
  event: E
}

/**
 * The events of `entries`, in order. Two kinds of entries go to `bury`: those that do not decode, and those whose
 * decoded key differs from the key by which they were dealt into a lane.
 */
export async function openEntries<E extends object>(
  entries: readonly Held<E>[],
  { codec, key }: { codec: EntryCodec<E>; key: (event: E) => string },
  bury: (held: Held<E>, refusal: Refusal) => Promise<void>,
): Promise<Opened<E>[]> {
  const opened: Opened<E>[] = []
  for (const held of entries) {
    try {
      const event = held.event ?? codec.decode(held.fields)
      if (key(event) !== held.key) throw new InvalidEntryError('not-an-event', `it names two keys, first ${held.key}`)
      opened.push({ held, event })
    } catch (error) {
      await bury(held, refusalOf(error))
    }
  }
  return opened
}

/**
 * The refusal for anything that a codec throws. If such an error were thrown on, it would end the process at every
 * start.
 */
export function refusalOf(error: unknown): Refusal {
  const reason = error instanceof InvalidEntryError ? error.reason : 'not-an-event'
  return { reason, message: describeError(error) }
}

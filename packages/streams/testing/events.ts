/** Test events whose numbers tell their order. */
import { InvalidEntryError, type EntryCodec, type EntryFields } from '@sluice/events/codec.ts'

export interface TestEvent {
  key: string
  n: number
  /** What the process of `consumer-process.ts` does when it gets this event. */
  deed?: 'kill' | 'throw' | 'slow'
  filler?: string
}

export const testCodec: EntryCodec<TestEvent> = {
  encode: (event) => ({ event: JSON.stringify(event) }),
  decode(fields) {
    try {
      return JSON.parse(fields.event!) as TestEvent
    } catch {
      throw new InvalidEntryError('not-json', String(fields.event).slice(0, 50))
    }
  },
}

/** The key of an entry as `testCodec` writes it. */
export function peekTestKey({ event }: EntryFields): string | undefined {
  return /^\{"key":"(\w+)"/.exec(event ?? '')?.[1]
}

/** `count` events, numbered from `first`, with `keys` keys in turn. */
export function eventsFrom(first: number, count: number, keys = 7): TestEvent[] {
  return numbers(count, first).map((n) => ({ key: `k${n % keys}`, n }))
}

export const numbers = (count: number, first = 0): number[] => Array.from({ length: count }, (_, i) => first + i)

export const sorted = (list: Iterable<number>): number[] => [...list].toSorted((a, b) => a - b)

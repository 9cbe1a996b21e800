/** Whose labels a cursor stands for, when the numbers of a host begin again. */
import { testDid } from '@sluice/atproto/testing/world.ts'
import { labelEventCodec } from '@sluice/events/codec.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import { LabelCursor } from './label-cursor.ts'
import { test } from './testing/run.ts'

test('D1 labels that were passed by come again, though a host that was set up anew reached the number that it had before', async ({
  tools,
}) => {
  const { redis } = tools
  const did = testDid('labeler')
  const highWater = new HighWater({ redis, stream: 'label_live', entriesMax: 1e9 })
  const producer = new Producer({ redis, stream: 'label_live', codec: labelEventCodec, highWater })
  const { signal } = new AbortController()
  const cursor = new LabelCursor({ redis, producer, host: 'labeler.example', did })
  const readTo = async (position: number): Promise<void> => {
    cursor.position = position
    await cursor.append([], signal)
  }
  await cursor.begin(signal)
  await readTo(1)
  // The host begins anew, and sends a label of the labeler, who has no key at that moment.
  cursor.position = 0
  cursor.exclude(did)
  await readTo(1)
  expect(cursor.labelers).toEqual(new Set())
  // Now he has one.
  expect(cursor.include(did)).toBe(true)
  expect(cursor.skipsIncluded).toBe(true)
  await cursor.begin(signal)
  expect([cursor.position, cursor.labelers, cursor.skipsIncluded]).toEqual([0, new Set([did]), false])
})

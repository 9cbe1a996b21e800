import { expect } from '@sluice/sandbox/fixtures.ts'
import { eventsFrom, numbers, sorted } from './testing/events.ts'
import { never, test } from './testing/fixtures.ts'

test('the end of the stream is told at once when the last answer was a full one', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 20), never)
  // Longer than the test may take: a lane that waited for the end of such a read would fail it.
  const limits = { readEntries: 10, batchEvents: 1_000, blockMs: 60_000 }
  const { acked } = tools.consume({ redis, reader: await tools.connect(redisUrl), limits })
  await expect.poll(() => sorted(acked), { timeout: 10_000 }).toEqual(numbers(20))
})

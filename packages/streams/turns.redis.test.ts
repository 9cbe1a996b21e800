import { TransientError } from '@sluice/runtime/errors.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import type { Batch } from './consumer.ts'
import { eventsFrom, type TestEvent } from './testing/events.ts'
import { ackAll, address, never, test } from './testing/fixtures.ts'
import { Turns } from './turns.ts'

test('consumers whose lanes take turns do not work on one key side by side, and one that fails gives its turn back', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  const lanes = [new Turns(), new Turns()]
  const turn = (lane: number): Promise<Disposable> => lanes[lane]!.enter(true)
  const inWork = new Set<string>()
  let sideBySide = 0
  const work = async ({ events }: Batch<TestEvent>): Promise<void> => {
    const keys = new Set(events.map(({ key }) => key))
    expect([...keys].filter((key) => inWork.has(key))).toEqual([])
    for (const key of keys) inWork.add(key)
    sideBySide = Math.max(sideBySide, inWork.size - keys.size)
    await new Promise((resolve) => setTimeout(resolve, 1))
    for (const key of keys) inWork.delete(key)
  }
  const consume = async (name: string, acked: number[], before: (batch: Batch<TestEvent>) => Promise<void>) => {
    await tools.producer(redis, { stream: name }).append(eventsFrom(0, 200, 13), never)
    const options = { redis, reader: await tools.connect(redisUrl), address: { ...address, stream: name } }
    return tools.consume({ ...options, limits: { batchEvents: 10 }, turn }, ackAll(acked, before), 2)
  }
  const failing = await consume('failing', [], async (batch) => {
    await work(batch)
    throw new TransientError('no database')
  })
  const [live, backfill]: [number[], number[]] = [[], []]
  await consume('live', live, work)
  await consume('backfill', backfill, work)
  await expect(failing.ended).rejects.toThrow('no database')
  await expect.poll(() => [live.length, backfill.length], { timeout: 10_000 }).toEqual([200, 200])
  expect(sideBySide).toBeGreaterThan(0)
})

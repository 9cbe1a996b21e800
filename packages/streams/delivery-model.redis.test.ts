import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { retryDeadLetters } from './dead-letters.ts'
import { DeliveryModel, MODEL } from './testing/delivery-model.ts'
import { numbers, sorted } from './testing/events.ts'

const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2, 3, 4]
const fired: DeliveryModel['fired'][] = []

test.for(SEEDS)(
  'D2, D4 whatever befalls, every event is processed, none is acked unprocessed, nothing stays behind: seed %i',
  { timeout: 60_000 },
  async (seed) => {
    await using server = await startRedis()
    const model = await DeliveryModel.start(server, seed)
    try {
      await model.play()
      const { redis } = model
      const isDone = async () => {
        // Nobody is guilty here: who was taken for it, because so many died, is put back.
        await retryDeadLetters(redis, MODEL.stream, 'all')
        const consumers = await redis.xInfoConsumers(MODEL.stream, MODEL.group).catch(() => [])
        const others = consumers.filter(({ name }) => name !== 'last')
        return (await redis.xLen(MODEL.stream)) === 0 && others.length === 0
      }
      await model.finish(isDone)
      expect(model.unexpected).toEqual([])
      expect(sorted(model.processed)).toEqual(numbers(model.events))
      expect((await redis.xPending(MODEL.stream, MODEL.group)).pending).toBe(0)
      expect(await redis.keys('*:suspects:*')).toEqual([])
      fired.push(model.fired)
    } finally {
      await model.close()
    }
  },
)

// Fewer may well do without one of them.
test.skipIf(SEEDS.length < 4)('every fault fired', () => {
  for (const fault of Object.keys(fired[0]!) as (keyof DeliveryModel['fired'])[]) {
    const times = fired.reduce((sum, one) => sum + one[fault], 0)
    expect(times, `${fault} in seeds ${SEEDS.join(', ')}`).toBeGreaterThan(0)
  }
})

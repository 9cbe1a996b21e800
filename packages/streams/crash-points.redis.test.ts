import { expect } from '@sluice/sandbox/fixtures.ts'
import { eventsFrom, numbers, sorted, testCodec } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'
import { processed, startConsumerProcess, startProducerProcess } from './testing/processes.ts'

const { stream } = address

test.for(['append.before@3', 'append.after@3'])(
  'D1 a producer that dies at %s goes on where Redis stands: every event is stored once',
  async (crashPoints, { redisUrl, tools }) => {
    const redis = await tools.connect(redisUrl)
    const first = await startProducerProcess(redisUrl, 100, crashPoints)
    expect((await first.exited).signal).toBe('SIGKILL')
    expect(first.log.tail()).toContain('crash point append')
    expect(await redis.get('s:cursor:upstream')).toBe(crashPoints === 'append.before@3' ? '20' : '30')
    const second = await startProducerProcess(redisUrl, 100)
    expect((await second.exited).code).toBe(0)
    const entries = (await redis.xRange(stream, '-', '+')) ?? []
    expect(entries.map(({ message }) => testCodec.decode(message).n)).toEqual(numbers(100))
  },
)

test.for([
  { crashPoints: 'commit.after@4', again: 10 },
  { crashPoints: 'ack.after@4', again: 0 },
])(
  'D2 a consumer that dies at $crashPoints: every event is processed, and $again are processed twice',
  async ({ crashPoints, again }, { redisUrl, tools }) => {
    const redis = await tools.connect(redisUrl)
    await tools.producer(redis).append(eventsFrom(0, 100, 1), never)
    const options = { url: redisUrl, consumer: 'one', limits: { batchEvents: 10 } }
    const first = await startConsumerProcess({ ...options, crashPoints })
    expect((await first.exited).signal).toBe('SIGKILL')
    expect(first.log.tail()).toContain('crash point')
    expect(await redis.xLen(stream)).toBe(crashPoints === 'commit.after@4' ? 70 : 60)
    const second = await startConsumerProcess(options)
    await second.waitUntil('done', async () => (await redis.xLen(stream)) === 0)
    expect((await second.stop()).code).toBe(0)
    const done = (await processed(redis)).map(({ n }) => n)
    expect(sorted(new Set(done))).toEqual(numbers(100))
    expect(done.length).toBe(100 + again)
  },
)

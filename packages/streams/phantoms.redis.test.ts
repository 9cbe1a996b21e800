import { expect } from '@sluice/sandbox/fixtures.ts'
import { listIncidents } from './incidents.ts'
import { eventsFrom, sorted } from './testing/events.ts'
import { address, never, test } from './testing/fixtures.ts'

const { stream, group } = address

test('pending entries whose body was deleted are cleared, counted and an incident, own and reclaimed ones', async ({
  redisUrl,
  tools,
}) => {
  const redis = await tools.connect(redisUrl)
  await tools.producer(redis).append(eventsFrom(0, 12), never)
  await redis.xGroupCreate(stream, group, '0')
  const take = async (consumer: string) => {
    const reply = (await redis.xReadGroup(group, consumer, { key: stream, id: '>' }, { COUNT: 6 })) as {
      messages: { id: string }[]
    }[]
    return reply[0]!.messages.map(({ id }) => id)
  }
  const own = await take(address.consumer)
  const others = await take('gone')
  await redis.xDel(stream, [own[1]!, own[4]!, others[0]!])
  let phantoms = 0
  const observer = { phantoms: (entries: number) => void (phantoms += entries) }
  const running = tools.consume({ redis, reader: await tools.connect(redisUrl), observer })
  await expect.poll(() => sorted(running.acked), { timeout: 10_000 }).toEqual([0, 2, 3, 5, 7, 8, 9, 10, 11])
  expect(phantoms).toBe(3)
  await expect.poll(async () => (await redis.xPending(stream, group)).pending).toBe(0)
  // The first of a spell is told soon, the others when the spell, or the run, ends.
  await running.stop()
  const lost = (await listIncidents(redis, 10)).filter(({ kind }) => kind === 'phantom-entries')
  expect(lost.reduce((sum, { what }) => sum + Number(/^(\d+) pending entries of s /.exec(what)![1]), 0)).toBe(3)
  expect(lost.length).toBeLessThanOrEqual(2)
  expect(lost.at(-1)).toMatchObject({ role: 'g one', what: expect.stringContaining(`(first ${own[1]})`) as string })
})

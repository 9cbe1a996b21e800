/**
 * Groups of an indexer have the names that the operator gave them; what was handed out twice, is gone, or has lost its
 * group is counted.
 */
import { history } from '@sluice/indexing/testing/history.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { append, drained, openRedis, startIndexer } from './testing/indexers.ts'

const STREAM = 'firehose_live'
const events = history({ seed: 5, events: 8 })
const WAIT = { timeout: 30_000, interval: 50 }

test('under the names of INDEXER_GROUP and INDEXER_LABEL_GROUP, entries that come again, that are gone, and a group that vanished are counted', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await append(redis, STREAM, events)
  await redis.xGroupCreate(STREAM, 'people', '0')
  const handedOut = async (consumer: string, count: number): Promise<string[]> => {
    const read = (await redis.xReadGroup('people', consumer, { key: STREAM, id: '>' }, { COUNT: count })) as
      { messages: { id: string }[] }[] | null
    return read![0]!.messages.map(({ id }) => id)
  }
  // Before it died it had been handed three, and another one, which stays dead, two. Somebody deletes one of the three.
  const own = await handedOut('one', 3)
  expect(await handedOut('dead', 2)).toHaveLength(2)
  expect(await redis.xDel(STREAM, own[0]!)).toBe(1)

  const names = { INDEXER_GROUP: 'people', INDEXER_LABEL_GROUP: 'marks' }
  await using indexer = await startIndexer({ database, redisUrl }, 'one', names)
  await drained(redis, [STREAM])
  const counted = (name: string, labels = {}) =>
    indexer.metric(`sluice_stream_${name}_total`, { stream: STREAM, ...labels })
  expect(await counted('phantom_entries')).toBe(1)
  expect(await counted('redelivered_entries', { from: 'own-pending' })).toBe(2)
  expect(await counted('redelivered_entries', { from: 'reclaimed' })).toBe(2)
  expect(await counted('groups_lost')).toBe(0)

  const groups = async (stream: string) => (await redis.xInfoGroups(stream)).map(({ name }) => name)
  expect([await groups(STREAM), await groups('label_live')]).toEqual([['people'], ['marks']])
  expect(await redis.xGroupDestroy(STREAM, 'people')).toBe(1)
  await expect.poll(() => counted('groups_lost'), WAIT).toBe(1)
  await expect.poll(() => groups(STREAM), WAIT).toEqual(['people'])
})

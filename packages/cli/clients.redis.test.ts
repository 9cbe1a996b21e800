/**
 * O2: consumers that collide are told, and daemons of another pipeline in another database of the same Redis are none
 * of ours.
 */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { consumerClientName } from '@sluice/streams/client-names.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { inspectConnection } from './redis-state.ts'

test('only the daemons in the database of REDIS_URL are seen', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  const connect = async (database: string, purpose: string) => {
    const url = new URL(database, redisUrl).href
    const name = consumerClientName('indexer', 'one', purpose)
    return stack.adopt(await connectRedis({ url, name }), (client) => client.destroy())
  }
  const ours = await connect('/0', 'ours')
  await connect('/1', 'theirs')
  const { clients } = await inspectConnection(ours)
  expect(clients?.map(({ name }) => name)).toEqual([consumerClientName('indexer', 'one', 'ours')])
})

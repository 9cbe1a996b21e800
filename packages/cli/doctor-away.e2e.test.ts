/**
 * O2: doctor names what daemons meet outside of their stores: a Redis that became a replica, a relay that does not
 * answer.
 */
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { idsOf } from './testing/doctor.ts'

test('a Redis that became a replica is named, and nothing more is once it is a primary again', async ({ database }) => {
  await using primary = await startRedis()
  await using server = await startRedis({ maxmemory: '256mb' })
  const env = { REDIS_URL: server.url(), DB_POSTGRES_URL: database, SLUICE_DAEMONS: '', METRICS_PORT: '0' }
  const before = await idsOf(env)
  expect(before).not.toContain('redis-replica')
  const redis = await connectRedis({ url: server.url(), name: 'test' })
  try {
    const { hostname, port } = new URL(primary.url())
    await redis.sendCommand(['REPLICAOF', hostname, port])
    expect(await idsOf(env)).toContain('redis-replica')
    await redis.sendCommand(['REPLICAOF', 'NO', 'ONE'])
    expect(await idsOf(env)).toEqual(before)
  } finally {
    redis.destroy()
  }
})

test('a relay that nobody answers for is named', async ({ database }) => {
  await using server = await startRedis({ maxmemory: '256mb' })
  const relays = { RELAY_HOSTS: 'ws://127.0.0.1:1', ALLOW_PRIVATE_HOSTS: 'true' }
  const stores = { REDIS_URL: server.url(), DB_POSTGRES_URL: database, ...relays }
  await using ingester = await startDaemon({
    role: 'ingester',
    id: 'one',
    env: { ...stores, INGESTER_MODE: 'firehose' },
    until: 'alive',
  })
  const env = { ...stores, SLUICE_DAEMONS: `http://127.0.0.1:${ingester.port}` }
  await expect.poll(() => idsOf(env), { timeout: 30_000, interval: 500 }).toContain('relay-disconnected')
})

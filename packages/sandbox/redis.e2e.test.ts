import { createClient } from 'redis'
import { expect, test } from './fixtures.ts'
import { type Redis, redisVersion, startRedis } from './redis.ts'

test('it is set up as production demands: AOF, noeviction, loopback', async () => {
  await using server = await startRedis({ maxmemory: '64mb' })
  const client = await connect(server)
  expect(await client.configGet(['appendonly', 'maxmemory-policy', 'bind', 'maxmemory'])).toEqual({
    appendonly: 'yes',
    'maxmemory-policy': 'noeviction',
    bind: '127.0.0.1',
    maxmemory: String(64 * 1024 * 1024),
  })
  expect(redisVersion()).toMatch(/^\d+\.\d+\.\d+$/)
  client.destroy()
})

test('what was fsynced survives a SIGKILL', async () => {
  await using server = await startRedis({ settings: { appendfsync: 'always' } })
  const before = await connect(server)
  await before.xAdd('stream', '1-1', { event: 'a' })
  const killed = server.pid
  await server.kill()
  await server.start()
  expect(server.pid).not.toBe(killed)
  const after = await connect(server)
  expect(await after.xLen('stream')).toBe(1)
  before.destroy()
  after.destroy()
})

test('at maxmemory writes are refused and nothing is evicted', async () => {
  await using server = await startRedis({ maxmemory: '8mb' })
  const client = await connect(server)
  const payload = 'x'.repeat(100_000)
  const fill = async (): Promise<void> => {
    for (let i = 0; i < 1_000; i++) await client.set(`key:${i}`, payload)
  }
  await expect(fill()).rejects.toThrow(/^OOM/)
  expect(await client.exists('key:0')).toBe(1)
  client.destroy()
})

test('paused it is silent; resumed it answers what was asked meanwhile', async () => {
  await using server = await startRedis()
  const client = await connect(server)
  server.pause()
  let answered = false
  const ping = client.ping().then((pong) => {
    answered = true
    return pong
  })
  await new Promise((resolve) => setTimeout(resolve, 200))
  expect(answered).toBe(false)
  server.resume()
  expect(await ping).toBe('PONG')
  client.destroy()
})

async function connect(server: Redis): Promise<ReturnType<typeof createClient>> {
  const client = createClient({ url: server.url(), socket: { reconnectStrategy: false } })
  client.on('error', () => {})
  await client.connect()
  return client as ReturnType<typeof createClient>
}

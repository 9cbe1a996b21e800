import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { checkRedisSettings } from '@sluice/streams/redis-settings.ts'
import { root } from './roles.ts'

/** What depends on where it runs, and not on what it is for. */
const OF_THE_PLACE = ['dir', 'bind', 'protected-mode']

test('a Redis takes every setting of infra/redis/redis.conf, and `doctor` and the ingester find nothing wrong with it', async () => {
  const lines = readFileSync(join(root, 'infra/redis/redis.conf'), 'utf8').split('\n')
  const settings = Object.fromEntries(
    lines
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.split(' ', 1)[0]!, line.slice(line.indexOf(' ') + 1).replace(/^""$/, '')])
      .filter(([name]) => !OF_THE_PLACE.includes(name!)),
  ) as Record<string, string>
  expect(Object.keys(settings).length).toBeGreaterThan(12)

  await using server = await startRedis({ settings })
  const { signal } = new AbortController()
  const redis = await connectRedis({ url: server.url(), name: 'settings', signal, onState: () => undefined })
  try {
    expect(await checkRedisSettings(redis)).toEqual([])
    const effective = await redis.configGet([
      'appendfsync',
      'maxmemory',
      'maxmemory-policy',
      'hash-max-listpack-entries',
    ])
    expect(effective).toEqual({
      appendfsync: 'everysec',
      maxmemory: String(8 * 1024 ** 3),
      'maxmemory-policy': 'noeviction',
      'hash-max-listpack-entries': '512',
    })
  } finally {
    redis.destroy()
  }
})

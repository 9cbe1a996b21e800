/**
 * O2: `backfill status` names hosts that have answered nothing but 429 for days, and repositories that were set aside.
 */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { hostKey, priorityStream, setAsideKey } from '@sluice/streams/backfill-queue.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { runCli } from './testing/run.ts'

const STREAM = 'repo_backfill'

test('hosts that have answered 429 for days, and what has no dead letter, are named', async ({ redisUrl }) => {
  await using stack = new AsyncDisposableStack()
  const redis = stack.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  const longAgo = Date.now() - 3.5 * 86_400_000
  await redis.hSet(hostKey(STREAM, 'limited.example'), 'limitedSince', String(longAgo))
  await redis.hSet(hostKey(STREAM, 'parked.example'), 'parkedUntil', String(Date.now() + 600_000))
  await redis.hSet(hostKey(STREAM, 'well.example'), 'reposDone', '7')
  await redis.hSet(setAsideKey(STREAM), 'evil.example export-bad-signature', '40')
  await redis.hSet(setAsideKey(priorityStream(STREAM)), 'evil.example export-bad-signature', '2')
  const sluice = (...args: string[]) => runCli(['backfill', 'status', ...args], { REDIS_URL: redisUrl })
  const { stdout } = await sluice()
  expect(stdout).toMatch(/limited\.example +0 +- +0 +3\.5 d\n/)
  expect(stdout).toMatch(/parked\.example +0 +\d.* (min|s) +0 +-\n/)
  expect(stdout.indexOf('limited.example')).toBeLessThan(stdout.indexOf('parked.example'))
  expect(stdout).not.toContain('well.example')
  expect(stdout).toContain('42 evil.example export-bad-signature')
  const json = JSON.parse((await sluice('--json')).stdout) as { setAside: unknown; hosts: { host: string }[] }
  expect(json.setAside).toEqual({ 'evil.example export-bad-signature': 42 })
  expect(json.hosts[0]).toMatchObject({
    host: 'limited.example',
    limitedSeconds: expect.closeTo(302_400, -3) as number,
  })
})

import { setTimeout as delay } from 'node:timers/promises'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { startRedis } from '@sluice/sandbox/redis.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, connectRedis, type Redis } from './connection.ts'
import { test } from './testing/fixtures.ts'
import { FaultyProxy } from './testing/proxy.ts'

const databaseOf = (url: string): string => url.slice(url.lastIndexOf('/') + 1)

test('a command without connection is refused at once as transient, and works again after the reconnect', async ({
  tools,
}) => {
  await using server = await startRedis()
  const states: (string | undefined)[] = []
  const redis = await tools.connect(server.url(), { onState: (error) => states.push(error?.message) })
  await server.kill()
  await expect.poll(() => redis.isReady).toBe(false)
  const refused = await redis.ping().catch((error: unknown) => classifyRedisError(error))
  expect(refused).toBeInstanceOf(TransientError)
  await server.start()
  await expect.poll(() => redis.ping().catch(() => 'no'), { timeout: 5_000 }).toBe('PONG')
  expect(states[0]).toBeUndefined()
  expect(states.some((state) => state?.includes('ECONNREFUSED'))).toBe(true)
  expect(states.at(-1)).toBeUndefined()
})

test('it waits for a server that is not there yet, until the signal', async () => {
  const stop = new AbortController()
  const seen: (Error | undefined)[] = []
  const connecting = connectRedis({
    url: 'redis://127.0.0.1:1/0',
    name: 'test',
    signal: stop.signal,
    onState: (error) => void seen.push(error),
    limits: { reconnectMaxMs: 20 },
  })
  connecting.catch(() => {})
  await expect.poll(() => seen.length).toBeGreaterThan(2)
  stop.abort()
  await expect(connecting).rejects.toThrow('aborted')
})

test('a wrong password is fatal at the start', async ({ tools }) => {
  await using server = await startRedis()
  const admin = await tools.connect(server.url())
  await admin.configSet('requirepass', 'right')
  const url = server.url().replace('redis://', 'redis://:wrong@')
  await expect(connectRedis({ url, name: 'test' })).rejects.toThrow(FatalError)
  const redis = await tools.connect(url.replace('wrong', 'right'))
  expect(await redis.ping()).toBe('PONG')
})

test('a peer that vanished without a word is given up, however busily others write to it', async ({
  redisUrl,
  tools,
}) => {
  await using proxy = await FaultyProxy.start(redisUrl)
  const states: (string | undefined)[] = []
  const redis = await tools.connect(proxy.url(databaseOf(redisUrl)), {
    onState: (error) => states.push(error?.message),
    limits: { pingMs: 50, silenceMs: 300 },
  })
  proxy.beSilent(true)
  const outcomes: string[] = []
  const busy = setInterval(
    () =>
      void redis
        .incr('n')
        .then(
          () => 'answered',
          () => 'rejected',
        )
        .then((o) => outcomes.push(o)),
    20,
  )
  await expect.poll(() => outcomes.length, { timeout: 5_000 }).toBeGreaterThan(0)
  expect(proxy.swallowed).toBeGreaterThan(0)
  expect(outcomes[0]).toBe('rejected')
  expect(states.some((state) => state?.includes('no answer for 300 ms'))).toBe(true)
  proxy.beSilent(false)
  await expect.poll(() => redis.ping().catch(() => 'no'), { timeout: 5_000 }).toBe('PONG')
  clearInterval(busy)
})

test('a connection that its owner closed is not made anew', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl, { limits: { pingMs: 20, silenceMs: 20 } })
  redis.destroy()
  await delay(200)
  expect(redis.isOpen).toBe(false)
})

test('a name with spaces is no reason not to connect', async ({ redisUrl, tools }) => {
  const redis = await tools.connect(redisUrl, { name: 'indexer one: größer' })
  expect(await redis.clientGetName()).toBe('indexer-one:-gr--er')
})

/** How often a server was asked, refusals included. `admin` itself looks once an hour. */
async function asked(admin: Redis, command: string): Promise<number> {
  const line = new RegExp(`cmdstat_${command}:calls=(\\d+).*rejected_calls=(\\d+)`).exec(
    await admin.info('commandstats'),
  )
  return Number(line?.[1] ?? 0) + Number(line?.[2] ?? 0)
}

test('a REDIS_URL that names a replica leads to it again, less and less often', async ({ tools }) => {
  await using server = await startRedis()
  const admin = await tools.connect(server.url(), { limits: { pingMs: 3_600_000 } })
  await admin.sendCommand(['REPLICAOF', '127.0.0.1', '1'])
  const lost: string[] = []
  const onState = (error?: Error) => void (error && lost.push(error.message))
  await tools.connect(server.url(), { onState, limits: { pingMs: 20 } })
  await expect.poll(() => asked(admin, 'role'), { timeout: 20_000 }).toBeGreaterThan(35)
  const looks = await asked(admin, 'role')
  expect(lost[0]).toMatch(/is a replica and takes no writes.*name the primary/)
  expect(lost.length).toBeGreaterThan(4)
  expect(lost.length).toBeLessThan(5 + looks / 6)
})

test('a user who may not ask for the role of the server is served as ever, and asks once', async ({ tools }) => {
  await using server = await startRedis()
  const admin = await tools.connect(server.url(), { limits: { pingMs: 3_600_000 } })
  await admin.sendCommand(['ACL', 'SETUSER', 'sluice', 'on', '>pw', '~*', '+@all', '-role'])
  const lost: Error[] = []
  const redis = await tools.connect(server.url().replace('redis://', 'redis://sluice:pw@'), {
    onState: (error) => void (error && lost.push(error)),
    limits: { pingMs: 20 },
  })
  await expect.poll(() => asked(admin, 'ping'), { timeout: 10_000 }).toBeGreaterThan(5)
  expect(await asked(admin, 'role')).toBe(1)
  expect([lost, await redis.ping()]).toEqual([[], 'PONG'])
})

test('a user who may not give a command within a script is told that it is refused, and not that Redis is too old', async ({
  tools,
}) => {
  await using server = await startRedis()
  const admin = await tools.connect(server.url())
  await admin.sendCommand(['ACL', 'SETUSER', 'sluice', 'on', '>pw', '~ours*', '+@all', '-xlen'])
  const redis = await tools.connect(server.url().replace('redis://', 'redis://sluice:pw@'))
  const calls = [`redis.call('xlen', KEYS[1])`, `redis.call('get', 'theirs')`]
  for (const call of calls) {
    const error = await redis.eval(`#!lua\nreturn ${call}`, { keys: ['ours'] }).catch(classifyRedisError)
    expect(error, call).toBeInstanceOf(FatalError)
    expect((error as Error).message, call).toMatch(/^Redis refuses us: .*permission/)
  }
})

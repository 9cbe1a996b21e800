/**
 * What operators do to streams: dead letters, pending entries, groups, incidents. Each command does what it says, twice
 * as well as once.
 */
import { streamEventCodec } from '@sluice/events/codec.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { Consumer } from '@sluice/streams/consumer.ts'
import { bury } from '@sluice/streams/dead-letters.ts'
import { ensureGroup, readNew } from '@sluice/streams/entries.ts'
import { recordIncident } from '@sluice/streams/incidents.ts'
import { Lease } from '@sluice/streams/lease.ts'
import { shardOf } from '@sluice/streams/spread.ts'
import { runCli, type Said } from './testing/run.ts'

const STREAM = 'firehose_live'
const GROUP = 'firehose_group'
const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'

test('dead letters are listed by reason, shown, put back once, and dropped only when told so', async ({ redisUrl }) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  await buryOne(redis, 'constraint', 1)
  await buryOne(redis, 'constraint', 2)
  await buryOne(redis, 'not-json', 3)
  const listed = JSON.parse((await sluice('dlq', 'list', '--json')).stdout) as {
    counts: { reason: string; entries: number }[]
    letters: { id: string; reason: string }[]
  }
  expect(listed.counts.map(({ reason, entries }) => `${reason} ${entries}`).toSorted()).toEqual([
    'constraint 2',
    'not-json 1',
  ])
  const people = await sluice('dlq', 'list')
  expect(people.stdout).toContain(`create at://${DID}/app.bsky.feed.like/r1`)

  const [first, , third] = listed.letters
  expect((await sluice('dlq', 'show', first!.id)).stdout).toContain('"rkey": "r1"')
  expect(await sluice('dlq', 'show', '1-1')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('no dead letter 1-1') as string,
  })

  expect((await sluice('dlq', 'retry', '--reason', 'constraint')).stdout).toContain('2 dead letters are back')
  expect((await sluice('dlq', 'retry', '--reason', 'constraint')).stdout).toContain('0 dead letters are back')
  expect(await redis.xLen(STREAM)).toBe(2)

  const dry = await sluice('dlq', 'drop', third!.id)
  expect(dry.stdout).toContain('would drop 1 dead letters')
  expect(await redis.xLen(`${STREAM}_dlq`)).toBe(1)
  expect((await sluice('dlq', 'drop', third!.id, '--yes')).stdout).toContain('dropped 1')
  expect((await sluice('dlq', 'list')).stdout).toContain('no dead letters')
  expect((await sluice('dlq', 'drop')).code).toBe(1)
})

test('a host that cannot be reached is named with what happened', async ({ redisUrl }) => {
  const env = { REDIS_URL: redisUrl, ALLOW_PRIVATE_HOSTS: 'true' }
  const { code, stderr } = await runCli(['backfill', 'host', '127.0.0.1:1'], env)
  expect({ code, stderr }).toEqual({ code: 69, stderr: expect.stringMatching(/127\.0\.0\.1:1.*ECONNREFUSED/) as string }) // prettier-ignore
})

test('entries of a dead consumer go to a living one, which works on them; a living one keeps its own', async ({
  redisUrl,
}) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  const dead = { stream: STREAM, group: GROUP, consumer: 'dead' }
  await ensureGroup(redis, dead)
  for (let i = 0; i < 30; i++) await append(redis, i)
  expect(await readNew(redis, dead, 30, 10)).toHaveLength(30)
  expect((await sluice('pending', 'list', STREAM)).stdout).toContain(`create at://${DID}/app.bsky.feed.like/r0`)
  expect(await sluice('pending', 'reclaim', STREAM)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('start an indexer') as string,
  })

  await using reader = await connect(redisUrl)
  const stop = new AbortController()
  const done: string[] = []
  const consumer = new Consumer({
    reader,
    redis,
    address: { ...dead, consumer: 'alive' },
    codec: streamEventCodec,
    key: ({ did }) => did,
    // So long that what follows is not the consumer's own doing; it looks at its own pending entries four times as
    // often.
    limits: { reclaimIdleMs: 20_000 },
  })
  const running = consumer.run(stop.signal, 1, async (batches) => {
    for await (const batch of batches) {
      for (const event of batch.events) if (event.type === 'create') done.push(event.rkey)
      await batch.ack()
    }
  })
  await expect.poll(async () => (await sluice('pending', 'reclaim', STREAM)).stderr, { timeout: 5_000 }).toBe('')
  await expect.poll(() => new Set(done).size, { timeout: 15_000 }).toBe(30)
  expect((await sluice('pending', 'list')).stdout).toContain('nothing is pending')
  const refused = await sluice('pending', 'reclaim', STREAM, '--consumer', 'alive')
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('stop that process first') as string })
  stop.abort()
  await running
})

test('a group reset is a dry run at first, refuses while consumers live, and from the start loses nothing', async ({
  redisUrl,
}) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  const address = { stream: STREAM, group: GROUP, consumer: 'one' }
  await ensureGroup(redis, address)
  for (let i = 0; i < 5; i++) await append(redis, i)
  await readNew(redis, address, 3, 10)
  const marks = [`${STREAM}:suspects:${GROUP}`, 'repo_backfill:under-way:repo_backfill_group']
  for (const key of marks) await redis.hSet(key, '1-1', '3')
  expect((await sluice('group', 'reset', STREAM)).stdout).toContain('Nothing was done')
  expect(await redis.xPending(STREAM, GROUP)).toMatchObject({ pending: 3 })

  const lease = new Lease({ redis, ...address, signal: new AbortController().signal })
  await lease.take()
  expect(await sluice('group', 'reset', STREAM, '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('stop the consumers') as string,
  })
  await lease.release()

  expect((await sluice('group', 'reset', STREAM, '--yes')).code).toBe(0)
  expect(await readNew(redis, address, 10, 10)).toHaveLength(5)
  expect(await redis.exists(marks)).toBe(1)
  await ensureGroup(redis, { stream: 'repo_backfill', group: 'repo_backfill_group', consumer: 'one' })
  await sluice('group', 'reset', 'repo_backfill', '--yes')
  expect(await redis.exists(marks), 'deaths are forgotten').toBe(0)
})

test('a group reset to the end drops what waits, and asks for its accounts to be fetched anew', async ({
  redisUrl,
}) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  await ensureGroup(redis, { stream: STREAM, group: GROUP, consumer: 'one' })
  for (let i = 0; i < 5; i++) await append(redis, i)
  expect((await sluice('group', 'reset', STREAM, '--to', 'end')).stdout).toContain('NEVER applied')
  expect((await sluice('group', 'reset', STREAM, '--to', 'end', '--yes')).stdout).toContain(
    '5 entries dropped, 1 repositories queued',
  )
  expect(await redis.xLen(STREAM)).toBe(0)
  const [asked] = (await redis.xRange('repo_backfill', '-', '+')) ?? []
  expect(JSON.parse(asked!.message.repo!)).toMatchObject({ did: DID, reason: 'requested' })
  expect((await sluice('group', 'reset', 'nonsense')).code).toBe(1)
})

test('with shards, only accounts of this one are asked for, and no tombstone goes on the word of one', async ({
  redisUrl,
}) => {
  await using redis = await connect(redisUrl)
  const dids = Array.from({ length: 20 }, (_, i) => `did:plc:${String.fromCodePoint(97 + i).repeat(24)}`)
  const own = dids.filter((did) => shardOf(did, 2) === 1)
  expect(own.length).toBeGreaterThan(0)
  expect(own.length).toBeLessThan(20)
  const env = { REDIS_URL: redisUrl, INGESTER_SHARD: '1/2', BACKFILLER_BACKFILL_STREAM: 'repo_backfill:1' }
  const said = await runCli(['backfill', 'did', ...dids], env)
  expect(said.stdout).toContain(`${20 - own.length} of other shards were left out`)
  const entries = (await redis.xRange('repo_backfill:1_priority', '-', '+')) ?? []
  expect(entries.map(({ message }) => (JSON.parse(message.repo!) as { did: string }).did)).toEqual(own)

  const foreign = await runCli(['explain', dids.find((did) => !own.includes(did))!], env)
  expect(foreign).toMatchObject({ code: 1, stderr: expect.stringContaining('is in shard 0/2') as string })
  const nowhere = { ...env, DB_POSTGRES_URL: 'postgres://nobody@127.0.0.1:1/none' }
  expect(await runCli(['prune', '--yes'], nowhere)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('in the environment of every shard') as string,
  })
})

test('status looks at the streams of the shard that it is told of', async ({ redisUrl }) => {
  await using redis = await connect(redisUrl)
  for (const [stream, entries] of [
    ['firehose_live:0', 3],
    ['firehose_live:1', 5],
  ] as const)
    // prettier-ignore
    for (let i = 0; i < entries; i++) await redis.xAdd(stream, '*', { event: '{}' })
  for (const [index, entries] of [3, 5].entries()) {
    const env = {
      REDIS_URL: redisUrl,
      INGESTER_SHARD: `${index}/2`,
      INGESTER_FIREHOSE_STREAM: `firehose_live:${index}`,
      INGESTER_REPO_STREAM: `repo_backfill:${index}`,
      BACKFILLER_BACKFILL_STREAM: `repo_backfill:${index}`,
      BACKFILLER_FIREHOSE_STREAM: `firehose_backfill:${index}`,
      INDEXER_STREAMS: `firehose_live:${index},firehose_backfill:${index}`,
      INDEXER_REPO_STREAM: `repo_backfill:${index}`,
    }
    const { stdout } = await runCli(['status', '--json'], env)
    const { redis: found } = JSON.parse(stdout) as {
      redis: { state: { streams: { stream: string; entries: number }[] } }
    }
    const streams = found.state.streams.map(({ stream }) => stream)
    expect(streams).toContain(`firehose_live:${index}`)
    expect(streams.filter((stream) => stream.includes(`:${1 - index}`))).toEqual([])
    expect(found.state.streams.find(({ stream }) => stream === `firehose_live:${index}`)?.entries).toBe(entries)
  }
})

test('incidents are listed, and cleared as far as they were seen', async ({ redisUrl }) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  for (const what of ['first', 'second']) {
    await recordIncident(redis, { kind: 'group-lost', role: 'indexer one', what, action: 'made anew' })
  }
  const [second, first] = JSON.parse((await sluice('incidents', 'list', '--json')).stdout) as {
    id: string
    what: string
  }[]
  expect([first!.what, second!.what]).toEqual(['first', 'second'])
  expect((await sluice('incidents', 'clear', '--before', first!.id)).stdout).toContain('1 incidents cleared')
  expect((await sluice('incidents', 'list')).stdout).toContain('second')
  await sluice('incidents', 'clear')
  expect((await sluice('incidents', 'list')).stdout).toContain('no incidents')
})

test('status shows depth, lag, pending, who is alive, dead letters by reason, and what Redis it looked at', async ({
  redisUrl,
}) => {
  await using redis = await connect(redisUrl)
  const sluice = runner(redisUrl)
  const address = { stream: STREAM, group: GROUP, consumer: 'one' }
  await ensureGroup(redis, address)
  for (let i = 0; i < 5; i++) await append(redis, i)
  await readNew(redis, address, 3, 10)
  await buryOne(redis, 'constraint', 9)
  await redis.set(`${STREAM}:cursor:relay.example`, '42')
  const { code, stdout } = await sluice('status')
  expect(code).toBe(0)
  expect(stdout).toMatch(/firehose_live +5 .* 3 +\d+ +\d+ .* 1\n/)
  expect(stdout).toMatch(/firehose_live +firehose_group +one +3 .*nobody alive/)
  expect(stdout).toMatch(/firehose_live +constraint +1\n/)
  expect(stdout).toMatch(/relay\.example +42/)
  const state = JSON.parse((await sluice('status', '--json')).stdout) as {
    redis: { state: { streams: { stream: string; entries: number }[] } }
  }
  expect(state.redis.state.streams.find(({ stream }) => stream === STREAM)?.entries).toBe(5)
})

test('with Redis away every command says so in one line, and exits 69', async () => {
  const commands = ['dlq list', 'dlq retry --all', 'pending list', 'pending reclaim firehose_live', 'group reset firehose_live', 'incidents list', 'incidents clear'] // prettier-ignore
  for (const line of commands) {
    const said = await runCli(line.split(' '), { REDIS_URL: 'redis://user:hidden-word@127.0.0.1:1' })
    expect(said, line).toEqual({ code: 69, stdout: '', stderr: expect.stringMatching(/^sluice: Redis at 127\.0\.0\.1:1 is away: connect ECONNREFUSED 127\.0\.0\.1:1\n$/) as string }) // prettier-ignore
  }
  const status = await runCli(['status'], { REDIS_URL: 'redis://127.0.0.1:1' })
  expect(status.code).toBe(69)
  expect(status.stdout).toContain('Redis at 127.0.0.1:1 is away')
})

function runner(redisUrl: string): (...args: string[]) => Promise<Said> {
  return (...args) => runCli(args, { REDIS_URL: redisUrl, METRICS_PORT: '0' })
}

async function connect(url: string): Promise<Redis & AsyncDisposable> {
  const redis = await connectRedis({ url, name: 'test' })
  return Object.assign(redis, { [Symbol.asyncDispose]: async () => redis.destroy() })
}

function entryOf(n: number): Record<string, string> {
  return streamEventCodec.encode({
    type: 'create',
    seq: n,
    time: '2026-01-01T00:00:00.000Z',
    did: DID,
    commit: 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
    rev: '3l3qo2vutsw2b',
    collection: 'app.bsky.feed.like',
    rkey: `r${n}`,
    cid: 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
    record: { $type: 'app.bsky.feed.like' },
  })
}

async function append(redis: Redis, n: number): Promise<string> {
  return redis.xAdd(STREAM, '*', entryOf(n))
}

async function buryOne(redis: Redis, reason: string, n: number): Promise<void> {
  const entryId = await append(redis, n)
  const fields = entryOf(n)
  await bury(redis, { stream: STREAM, group: GROUP, entryId, fields, reason, message: 'no', attempts: 2 })
}

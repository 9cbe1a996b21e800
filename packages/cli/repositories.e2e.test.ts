/**
 * What operators do with repositories: 100 damaged records are found and mended, one record is followed wherever it is,
 * counters are put right.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { formatCid } from '@sluice/atproto/cid.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { INGESTER_DONE } from '@sluice/streams/cursors.ts'
import { bury } from '@sluice/streams/dead-letters.ts'
import type { Explanation } from './commands/explain.ts'
import { count } from './output.ts'
import { runCli, type Said } from './testing/run.ts'

const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const LIKED = 'at://did:plc:bbbbbbbbbbbbbbbbbbbbbbbb/app.bsky.feed.post/3l3qo2vutsw2b'
/** More than a page of `sluice verify`. */
const LIKES = 1_200

test('100 damaged records are found and mended, a record is followed wherever it is, counters are recounted', async ({
  database,
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const repo = likes(new TestRepo(DID), 0, LIKES)
  network.addAccount(repo, await network.addHost())
  const stores = { REDIS_URL: redisUrl, DB_POSTGRES_URL: database }
  const sluice = (...args: string[]) =>
    runCli(args, { ...stores, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', METRICS_PORT: '0' })
  const sql = <T extends object>(text: string) => queryOnce<T & Record<string, unknown>>(database, text)
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    await using indexer = await startDaemon({ role: 'indexer', id: 'one', env: { ...stores, INDEXER_CONSUMER: 'one' } })
    await index(redis, repo)
    await drained(redis)
    expect((await sluice('verify', DID)).stdout).toContain('The index equals the repository.')
    const whole = await contents(sql)
    expect(whole).toHaveLength(LIKES)

    await damage(sql)
    const found = await verifyJson(sluice)
    expect(found.counts).toEqual({ missing: 40, extra: 10, stale: 30, 'without-rows': 20 })
    expect((await sluice('verify', DID)).code).toBe(1)
    expect((await sluice('verify', DID, '--repair')).code).toBe(0)
    await drained(redis)
    expect((await verifyJson(sluice)).counts).toEqual({ missing: 0, extra: 0, stale: 0, 'without-rows': 0 })
    expect(await contents(sql)).toEqual(whole)

    await countersAreMended(sluice, sql)
    await prunes(sluice, sql, redis)
    await follows(sluice, { redis, repo, sql, stop: () => indexer.stop() })
    await asks(sluice, redis, network)
  } finally {
    redis.destroy()
  }
})

type Sluice = (...args: string[]) => Promise<Said>
type Sql = <T extends object>(text: string) => Promise<(T & Record<string, unknown>)[]>

/** What damage of rows left behind in the counters. */
async function countersAreMended(sluice: Sluice, sql: Sql): Promise<void> {
  const checked = await sluice('recount', '--check')
  expect(checked).toMatchObject({ code: 1, stdout: expect.stringContaining('right is') as string })
  expect((await sluice('recount')).code).toBe(0)
  expect(await sluice('recount', '--check')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('0 were wrong') as string,
  })
  expect(
    await sql('select uri, "likeCount"::int from bsky.post_agg where "likeCount" > 0 order by uri limit 1'),
  ).toEqual([{ uri: `${LIKED}0`, likeCount: 1 }])
}

async function prunes(sluice: Sluice, sql: Sql, redis: Redis): Promise<void> {
  await sql(`insert into bsky.tombstone (uri, did, rev, "deletedAt") select 'at://${DID}/x/' || n, '${DID}', '3l', to_char(now() - make_interval(days => n), 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') from generate_series(1, 60) n`) // prettier-ignore
  expect((await sluice('prune')).stdout).toMatch(/would remove 3[01] rows/)
  expect((await sluice('prune', '--batch', '7', '--yes')).stdout).toMatch(/removed 3[01] rows/)
  expect((await sluice('prune', '--yes')).stdout).toContain('removed 0 rows')
  await redis.xAdd('repo_backfill_priority', '1000-1', { repo: '{}' })
  expect(await sluice('prune', '--yes')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('still wait in the streams') as string,
  })
  await redis.del('repo_backfill_priority')
  const young = `${Date.now()}-1`
  for (const [id, payload] of [
    ['1000-1', '{}'],
    [young, '{"retries":"1"}'],
  ] as const) {
    await redis.xAdd('firehose_live_dlq', '*', { stream: 'firehose_live', id, reason: 'x', payload })
    expect(await sluice('prune', '--yes')).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('a dead letter is older') as string,
    })
    await redis.del('firehose_live_dlq')
  }
}

async function follows(
  sluice: Sluice,
  { redis, repo, sql, stop }: { redis: Redis; repo: TestRepo; sql: Sql; stop: () => Promise<void> },
): Promise<void> {
  const explain = async (path: string): Promise<Explanation> =>
    JSON.parse((await sluice('explain', `at://${DID}/${path}`, '--json')).stdout) as Explanation
  const [path] = [...repo.records.keys()] as [string]
  const living = await explain(path)
  expect(living.verdict).toBe('it is in the index')
  expect(living.index).toMatchObject({
    tables: [{ table: 'like', rows: 1 }],
    counters: [{ table: 'post_agg', column: 'likeCount', key: `${LIKED}0`, value: 1 }],
  })
  const people = await sluice('explain', DID)
  expect(people.stdout).toContain(`${count(LIKES)} records`)

  await sql(`delete from bsky."like" where uri = 'at://${DID}/${path}'`)
  expect((await explain(path)).verdict).toContain('the rows of its collection are not')

  await stop()
  const event = created(repo, 'app.bsky.feed.like/waiting')
  const id = await redis.xAdd('firehose_live', '*', event)
  expect((await explain('app.bsky.feed.like/waiting')).verdict).toBe(
    `it is on its way: entry ${id} of firehose_live, nobody has taken it yet`,
  )
  await redis.sendCommand(['XREADGROUP', 'GROUP', 'firehose_group', 'gone', 'STREAMS', 'firehose_live', '>'])
  expect((await explain('app.bsky.feed.like/waiting')).verdict).toContain('gone has it')
  await bury(redis, { stream: 'firehose_live', group: 'firehose_group', entryId: id, fields: event, reason: 'constraint', message: 'no', attempts: 1 }) // prettier-ignore
  expect((await explain('app.bsky.feed.like/waiting')).verdict).toContain('it was given up: sluice dlq show')
  // Versions of a record that is in the index.
  const giveUp = async (fields: Record<string, string>): Promise<void> => {
    const entryId = await redis.xAdd('firehose_live', '*', fields)
    await redis.sendCommand(['XREADGROUP', 'GROUP', 'firehose_group', 'gone', 'STREAMS', 'firehose_live', '>'])
    await bury(redis, { stream: 'firehose_live', group: 'firehose_group', entryId, fields, reason: 'constraint', message: 'no', attempts: 1 }) // prettier-ignore
  }
  const version = created(repo, path)
  await giveUp(version)
  expect((await explain(path)).verdict).toMatch(
    /^its record is there, and the rows of its collection are not: .*; an entry that brings nothing newer was given up: sluice dlq show \d+-\d+$/,
  )
  await giveUp({ event: version.event!.replace(`"rev":"${repo.rev}"`, '"rev":"3zzzzzzzzzzzz"') })
  expect((await explain(path)).verdict).toMatch(
    /^its record is there, .*; a newer version was given up: sluice dlq show \d+-\d+$/,
  )

  await sql(
    `insert into bsky.tombstone (uri, did, rev, "deletedAt") values ('at://${DID}/app.bsky.feed.like/ended', '${DID}', '3lzzzzzzzzzzz', 'now')`,
  )
  expect((await explain('app.bsky.feed.like/ended')).verdict).toBe('it was deleted at 3lzzzzzzzzzzz')
  expect((await explain('com.example.other/x')).verdict).toContain('not indexed')
  expect((await sluice('explain', 'nonsense')).code).toBe(1)
}

async function asks(sluice: Sluice, redis: Redis, network: FakeNetwork): Promise<void> {
  expect((await sluice('backfill', 'did', DID)).stdout).toContain('1 repositories queued before all others')
  expect((await sluice('explain', DID)).stdout).toContain('is to be fetched')
  expect((await sluice('backfill', 'host', network.hosts[0]!.host, '--normal')).stdout).toContain('1 repositories')
  expect((await sluice('backfill', 'status')).stdout).toMatch(/queued +1 \(1 more/)
  expect((await sluice('backfill', 'cancel')).stdout).toContain('would take back 1')
  expect((await sluice('backfill', 'cancel', '--yes')).stdout).toContain('took back 1')
  expect(await redis.xLen('repo_backfill_priority')).toBe(0)
  const folder = mkdtempSync(join(tmpdir(), 'sluice-cli-'))
  writeFileSync(join(folder, 'dids.txt'), `${DID}\n\n${DID}\n`)
  expect((await sluice('backfill', 'file', join(folder, 'dids.txt'))).stdout).toContain(
    'repositories queued before all others',
  )
  const [asked] = (await redis.xRange('repo_backfill_priority', '-', '+')) ?? []
  expect(JSON.parse(asked!.message.repo!)).toMatchObject({ did: DID })
  expect((await sluice('backfill', 'cancel', '--yes')).code).toBe(0)
  rmSync(folder, { recursive: true })
  expect(await sluice('backfill', 'did', 'nonsense')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('nothing was queued') as string,
  })
  expect((await sluice('backfill', 'file', '/nowhere')).code).toBe(1)

  expect((await sluice('sweep')).stdout).toContain('a sweep is asked for')
  const demand = await redis.get('repo_backfill:sweep')
  const again = (await sluice('sweep')).stdout
  expect(again).toContain('already')
  expect(again).toContain('no ingester is connected that can do it')
  expect(await redis.get('repo_backfill:sweep')).toBe(demand)
  await redis.set('repo_backfill:cursor:relay.example', '5')
  const all = (...args: string[]) => sluice('backfill', 'all', ...args)
  expect((await all()).stdout).toContain('would remove 1 cursors: repo_backfill:cursor:relay.example (now 5)')
  expect((await all('--yes')).stdout).toContain('1 cursors removed')
  expect(await redis.get('repo_backfill:cursor:relay.example')).toBeNull()
}

test('during a first load nothing is repaired, of one account nor of a sample: that is said before anything is fetched', async ({
  database,
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  const host = await network.addHost()
  network.addAccount(likes(new TestRepo(DID), 0, 1), host)
  await queryOnce(database, `insert into bsky.bulk_load (id, phase, "startedAt") values (1, 'loading', '')`)
  const env = { REDIS_URL: redisUrl, DB_POSTGRES_URL: database, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', METRICS_PORT: '0' } // prettier-ignore
  for (const which of [[DID], ['--sample', '5']]) {
    const { code, stderr } = await runCli(['verify', ...which, '--repair'], env)
    expect(stderr).toContain('a first load is under way: repair after `sluice bulk finish`')
    expect(code).not.toBe(0)
  }
  expect([network.plcAsked, host.asked]).toEqual([0, []])
  // To look is allowed: its record is missing.
  expect((await runCli(['verify', DID], env)).stdout).toContain('1 missing')
})

test('with INGESTER_REPO_SOURCE=hosts a whole backfill lists every host anew, and leaves the cursors of others alone', async ({
  redisUrl,
}) => {
  await using relay = await FakeRelay.start()
  await using host = await FakeRelay.start()
  host.register(likes(new TestRepo(DID), 0, 1))
  relay.directory.hosts = [{ hostname: host.host }]
  const env = {
    REDIS_URL: redisUrl,
    RELAY_HOSTS: relay.url,
    PLC_URL: relay.url,
    ALLOW_PRIVATE_HOSTS: 'true',
    INGESTER_MODE: 'backfill',
    INGESTER_REPO_SOURCE: 'hosts',
  }
  const all = async (...args: string[]) => (await runCli(['backfill', 'all', ...args], { ...env, METRICS_PORT: '0' })).stdout // prettier-ignore
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const listed = async (times: number): Promise<void> => {
    await using _ = await startDaemon({ role: 'ingester', env })
    await expect.poll(() => redis.get(`repo_backfill:cursor:${relay.host}`)).toBe(INGESTER_DONE)
    expect(host.directory.asked('/xrpc/com.atproto.sync.listRepos')).toBe(times)
  }
  try {
    await listed(1)
    const others = [`firehose_live:cursor:${relay.host}`, `repo_backfill:sweep:cursor:${host.host}`]
    for (const key of others) await redis.set(key, '7')
    expect(await all()).toContain('would remove 2 cursors: ')
    expect(await all('--yes')).toContain('2 cursors removed')
    expect(await redis.mGet(others)).toEqual(['7', '7'])
    await listed(2)
  } finally {
    redis.destroy()
  }
})

async function verifyJson(sluice: Sluice): Promise<{ counts: Record<string, number> }> {
  return JSON.parse((await sluice('verify', DID, '--json')).stdout) as { counts: Record<string, number> }
}

/**
 * 40 lost altogether, 20 of them without a trace of their rows; 30 with other content; 20 without their rows; 10 that
 * never were.
 */
async function damage(sql: Sql): Promise<void> {
  const uris = (from: number, to: number): string =>
    `(select uri from bsky.record where did = '${DID}' order by uri offset ${from} limit ${to - from})`
  await sql(`delete from bsky."like" where uri in ${uris(0, 20)}`)
  await sql(`delete from bsky."like" where uri in ${uris(70, 90)}`)
  await sql(`update bsky.record set cid = 'bafyother', json = '{}' where uri in ${uris(40, 70)}`)
  await sql(`insert into bsky.record (uri, cid, did, json, "indexedAt", rev) select 'at://${DID}/app.bsky.feed.like/never' || n, 'bafyx', '${DID}', '{}', 'now', (select max(rev) from bsky.record) from generate_series(1, 10) n`) // prettier-ignore
  await sql(`delete from bsky.record where uri in ${uris(0, 40)}`)
}

async function contents(sql: Sql): Promise<unknown[]> {
  return sql(
    `select r.uri, r.cid, r.json::jsonb as json, l.subject from bsky.record r left join bsky."like" l on l.uri = r.uri where r.did = '${DID}' order by r.uri`,
  )
}

function likes(repo: TestRepo, from: number, to: number): TestRepo {
  const writes = Array.from({ length: to - from }, (_, i) => ({
    path: `app.bsky.feed.like/like${from + i}`,
    record: {
      $type: 'app.bsky.feed.like',
      subject: { uri: `${LIKED}${from + i}`, cid: 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku' },
      createdAt: '2026-01-01T00:00:00.000Z',
    },
  }))
  repo.write(writes)
  return repo
}

/** As the live stream would have brought it: every record at the head's rev, which is the hardest to mend. */
async function index(redis: Redis, repo: TestRepo): Promise<void> {
  for (const path of repo.records.keys()) await redis.xAdd('firehose_live', '*', created(repo, path))
}

function created(repo: TestRepo, path: string): Record<string, string> {
  const [collection, rkey] = path.split('/') as [string, string]
  const n = rkey.slice('like'.length)
  const cid = repo.records.get(path)?.cid
  return streamEventCodec.encode({
    type: 'create',
    seq: 1,
    time: '2026-01-02T00:00:00.000Z',
    did: DID,
    commit: formatCid(repo.commit!),
    rev: repo.rev,
    collection,
    rkey,
    cid: cid ? formatCid(cid) : 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku',
    record: {
      $type: 'app.bsky.feed.like',
      subject: { uri: `${LIKED}${n}`, cid: 'bafyreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku' },
      createdAt: '2026-01-01T00:00:00.000Z',
    },
  })
}

async function drained(redis: Redis): Promise<void> {
  const left = async () => (await redis.xLen('firehose_live')) + (await redis.xLen('firehose_backfill'))
  await expect.poll(left, { timeout: 60_000, interval: 50 }).toBe(0)
}

/** A sweep that was asked for finds all that was made before, however often it has to begin. */
import { HttpClient } from '@sluice/atproto/http.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect } from '@sluice/sandbox/fixtures.ts'
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { completeExport } from '@sluice/streams/chain-state.ts'
import { HighWater } from '@sluice/streams/high-water.ts'
import { Producer } from '@sluice/streams/producer.ts'
import type { ReposOptions } from './repos.ts'
import { demandedAt, demandSweep, SweepSchedule } from './sweep-demand.ts'
import { reposOf } from './testing/repos.ts'
import { test, WAIT, type Tools } from './testing/run.ts'
import { parseUpstream } from './upstream.ts'

const LIST = '/xrpc/com.atproto.sync.listRepos'
const TWO_HOURS_MS = 7_200_000
let number = 0

function write(repo: TestRepo): void {
  const record = { $type: 'app.bsky.feed.post', text: 'hello', createdAt: '2026-01-01T00:00:00.000Z' }
  repo.write([{ path: `app.bsky.feed.post/r${number++}`, record }])
}

/** Repositories that were fetched, have one more commit since, made an hour ago, and are listed one by one. */
async function behind({ redis }: Tools, names: readonly string[], startMs = Date.now() - TWO_HOURS_MS / 2) {
  const relay = await FakeRelay.start()
  relay.directory.pageRepos = 1
  const repos = names.map((name) => new TestRepo(testDid(name), { startMs }))
  for (const repo of repos) write(repo)
  const highWater = new HighWater({ redis, stream: 'firehose_backfill', entriesMax: 1e6 })
  const producer = new Producer({ redis, stream: 'firehose_backfill', codec: streamEventCodec, highWater })
  await producer.append([], new AbortController().signal, { also: repos.map((repo) => completeExport(repo.did, repo)) })
  for (const repo of repos) write(repo)
  relay.register(...repos)
  // All was listed before.
  await redis.set(`repo_backfill:cursor:${relay.host}`, '!ingester-done')
  return { relay, repos, [Symbol.asyncDispose]: () => relay.close() }
}

function sweeping(tools: Tools, relay: FakeRelay, options: Partial<ReposOptions> = {}) {
  const http = new HttpClient({ allowPrivate: true })
  const stop = new AbortController()
  const xrpc = new XrpcClient(http)
  const upstreams = [parseUpstream(relay.url)!]
  const running = reposOf(tools, { xrpc, upstreams, source: 'relay', againMs: 20, ...options }).run(stop.signal)
  const end = async (): Promise<void> => {
    stop.abort()
    await running
    await http.close()
  }
  return { [Symbol.asyncDispose]: end }
}

const demand = ({ redis }: Tools) => redis.get(sweepDemandKey('repo_backfill'))
const asked = async (tools: Tools) => (await tools.requests()).map(({ did }) => did)

test('what was lost while we were away is found, though the live stream seems to be still on its way to it', async ({
  tools,
}) => {
  await using at = await behind(tools, ['alice'])
  const { relay, repos } = at
  let lagMs = TWO_HOURS_MS
  await demandSweep(tools.redis, 'repo_backfill', 'outdated-cursor')
  await using _ = sweeping(tools, relay, { liveLagMs: async () => lagMs })
  await expect.poll(() => relay.directory.asked(LIST), WAIT).toBeGreaterThan(2)
  expect(await tools.requests()).toEqual([])
  expect(await demand(tools)).toMatch(/^outdated-cursor/)
  lagMs = 0
  await expect.poll(() => demand(tools), WAIT).toBeNull()
  expect(await asked(tools)).toEqual([repos[0]!.did])
})

test('a sweep that was under way before it was asked for does not count as all of one', async ({ tools }) => {
  await using at = await behind(tools, ['alice', 'bobby'])
  const { relay, repos } = at
  await tools.redis.set(`repo_backfill:sweep:cursor:${relay.host}`, '1')
  await demandSweep(tools.redis, 'repo_backfill', 'outdated-cursor')
  await using _ = sweeping(tools, relay)
  await expect.poll(() => demand(tools), WAIT).toBeNull()
  expect(await asked(tools)).toEqual([repos[1]!.did, repos[0]!.did])
})

test('what was made after it was asked for is left to the live stream', async ({ tools }) => {
  await using at = await behind(tools, ['alice'], Date.now() + TWO_HOURS_MS)
  const { relay } = at
  await demandSweep(tools.redis, 'repo_backfill', 'outdated-cursor')
  await using _ = sweeping(tools, relay)
  await expect.poll(() => demand(tools), WAIT).toBeNull()
  expect(relay.directory.asked(LIST)).toBe(1)
  expect(await tools.requests()).toEqual([])
})

test('a demand that does not say when it was made is met by one sweep', async ({ tools }) => {
  await using at = await behind(tools, ['alice'])
  await tools.redis.set(sweepDemandKey('repo_backfill'), 'now')
  await using _ = sweeping(tools, at.relay, { liveLagMs: async () => TWO_HOURS_MS })
  await expect.poll(() => demand(tools), WAIT).toBeNull()
  expect(at.relay.directory.asked(LIST)).toBe(1)
  expect(demandedAt('an operator asked (2026-11-21T07:00:00.000Z)')).toBe(Date.UTC(2026, 10, 21, 7))
})

test('D6 a sweep that is asked for while another runs is not met by that one', async ({ tools }) => {
  const { redis } = tools
  const schedule = new SweepSchedule({ redis, repoStream: 'repo_backfill', sweepIntervalMs: 0, pollMs: 2 })
  const { signal } = new AbortController()
  await demandSweep(redis, 'repo_backfill', 'one')
  const one = await schedule.untilDue(signal)
  await demandSweep(redis, 'repo_backfill', 'two')
  await schedule.met(one)
  expect(await schedule.untilDue(signal)).toMatch(/^two /)
})

test('what was asked for in vain has to wait, and keeps no other sweep from its turn', async ({ tools }) => {
  const { redis } = tools
  const schedule = new SweepSchedule({ redis, repoStream: 'repo_backfill', sweepIntervalMs: 1, pollMs: 2 })
  const { signal } = new AbortController()
  await demandSweep(redis, 'repo_backfill', 'one')
  const one = await schedule.untilDue(signal)
  expect(one).toMatch(/^one /)
  await schedule.unmet(one)
  expect(await schedule.untilDue(signal)).toBe('interval')
  await schedule.met('interval')
  expect(await demand(tools)).toBe(one)
  await demandSweep(redis, 'repo_backfill', 'two')
  const two = await schedule.untilDue(signal)
  expect(two).toMatch(/^two /)
  await schedule.met(two)
  expect(await demand(tools)).toBeNull()
})

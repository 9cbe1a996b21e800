/**
 * A network of 300 hosts and 5,000 repositories in which everything goes wrong that can: what is good arrives exactly, what is
 * bad has its named outcome, and no host is asked beyond its limits. Two backfillers share the work.
 */
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { listDeadLetters } from '@sluice/streams/dead-letters.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { retryKey } from '@sluice/streams/backfill-queue.ts'
import { IndexModel } from './testing/index-model.ts'
import { populate, type Expectation } from './testing/troubled-network.ts'

const HOSTS = Number(process.env.HOSTS ?? 300)
const REPOS = Number(process.env.REPOS ?? 5_000)
const PER_SECOND = 100
const BURST = 50
const CONCURRENCY = 8

const ENV = {
  ALLOW_PRIVATE_HOSTS: 'true',
  BACKFILLER_FIREHOSE_STREAM_HIGH_WATER_MARK: '20000',
  BACKFILLER_HOST_CONCURRENCY: String(CONCURRENCY),
  BACKFILLER_HOST_REQUESTS: String(PER_SECOND * 300 + BURST),
  BACKFILLER_RETRY_MS: '50ms',
  BACKFILLER_RETRY_MAX_MS: '1s',
  BACKFILLER_IDLE_MS: '2s',
  BACKFILLER_HEADERS_MS: '2s',
  BACKFILLER_MEMORY_BYTES: '96mb',
}

test('what is good arrives exactly, what is bad is named, no host is asked too much, and nothing hangs', async ({
  redisUrl,
}) => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
  console.log(`seed ${seed}`)
  await using network = await FakeNetwork.start()
  const expectations = await populate(network, new Random(seed), { hosts: HOSTS, repos: REPOS })
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  try {
    for (const { account, listed } of expectations.values()) {
      const entry: BackfillEvent = { did: account.did, host: account.pds.host, rev: listed, reason: 'listed' }
      await redis.xAdd('repo_backfill', '*', { repo: JSON.stringify(entry) })
    }
    const index = new IndexModel()
    const env = { ...ENV, REDIS_URL: redisUrl, PLC_URL: network.plcUrl }
    const started = performance.now()
    let looks = 0
    await using one = await startDaemon({ role: 'backfiller', id: 'one', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
    await using two = await startDaemon({ role: 'backfiller', id: 'two', env: { ...env, BACKFILLER_CONSUMER: 'two' } })
    const endless = [...expectations.values()].filter(({ outcome }) => outcome.kind === 'later').length
    const left = async (): Promise<string> => {
      const entries = (await redis.xRange('firehose_backfill', '-', '+', { COUNT: 5_000 })) ?? []
      for (const { message } of entries) index.apply(streamEventCodec.decode(message))
      if (entries.length > 0)
        await redis.xDel(
          'firehose_backfill',
          entries.map(({ id }) => id),
        )
      const queued = await redis.xLen('repo_backfill')
      const later = (await scheduled(redis)).size
      if (process.env.SHOW && ++looks % 50 === 0)
        console.log(
          ((performance.now() - started) / 1000).toFixed(1),
          queued,
          later,
          index.events,
          [...expectations.values()]
            .filter(
              ({ account, outcome }) => outcome.kind === 'exported' && index.repo(account.did).rev !== account.repo.rev,
            )
            .map(
              (e) =>
                e.trouble +
                ' ' +
                JSON.stringify(e.account.pds.manners.tells + e.account.pds.manners.requests) +
                e.account.repo.records.size,
            )
            .slice(0, 8),
        )
      return entries.length === 0 && later <= endless && settledDids(index, expectations)
        ? 'nothing'
        : `${queued} queued, ${later} later`
    }
    await expect.poll(left, { timeout: 240_000, interval: 20 }).toBe('nothing')
    console.log(`done after ${((performance.now() - started) / 1000).toFixed(1)} s`)

    const dead = new Map(
      (await listDeadLetters(redis, 'repo_backfill', 100_000)).map((letter) => [
        (JSON.parse(letter.fields.repo!) as BackfillEvent).did,
        letter.reason,
      ]),
    )
    const later = await scheduled(redis)
    const problems: string[] = []
    for (const expectation of expectations.values()) problems.push(...differences(expectation, { index, dead, later }))
    expect(problems).toEqual([])
    if (process.env.SHOW)
      for (const host of network.hosts)
        if (host.manners.requests > 0)
          console.log(
            host.manners.tells,
            host.asked.length,
            'refused',
            host.refused,
            'ignored',
            host.ignored,
            host.busiest,
          )
    for (const host of network.hosts) {
      expect(host.busiest, `${host.host} at once`).toBeLessThanOrEqual(CONCURRENCY)
      for (const seconds of [1, 3, 10]) {
        // A second more, since requests that were allowed one after the other may arrive together.
        expect(host.busiestWithin(seconds * 1000), `${host.host} in ${seconds} s`).toBeLessThanOrEqual(
          BURST + PER_SECOND * (seconds + 1),
        )
      }
    }
    const chains = await readChains(redis, [...expectations.keys()])
    const wrong = [...expectations.values()].filter(
      ({ account, outcome }, i) => outcome.kind === 'exported' && chains[i]?.record.rev !== account.repo.rev,
    )
    expect(wrong).toEqual([])
    for (const daemon of [one, two])
      expect(
        (await daemon.metric('sluice_backfill_repos_total', { outcome: 'exported' })) +
          (await daemon.metric('sluice_backfill_repos_total', { outcome: 'resynced' })),
      ).toBeGreaterThan(REPOS / 20)
  } finally {
    redis.destroy()
  }
})

interface Seen {
  index: IndexModel
  dead: ReadonlyMap<string, string>
  later: ReadonlyMap<string, { failure: string | undefined; dueMs: number }>
}

/** Where what came of a repository is not what must. */
function differences({ account, outcome, trouble, fires }: Expectation, { index, dead, later }: Seen): string[] {
  const { did } = account
  const repo = index.repo(did)
  const facts = {
    dead: dead.get(did),
    // Who waits for a dead host may never have had a turn.
    later: later.has(did) ? (later.get(did)!.failure ?? 'unavailable') : undefined,
    status: repo.status,
    records: repo.records.size,
    rev: repo.rev,
  }
  const wanted = {
    dead: outcome.kind === 'dead' ? outcome.reason : undefined,
    later: outcome.kind === 'later' ? outcome.failure : undefined,
    status: outcome.kind === 'account' ? outcome.status : undefined,
    records: outcome.kind === 'exported' ? account.repo.records.size : 0,
    rev: outcome.kind === 'exported' ? account.repo.rev : '',
  }
  const problems: string[] = []
  if (JSON.stringify(facts) !== JSON.stringify(wanted))
    problems.push(`${JSON.stringify(facts)} instead of ${JSON.stringify(wanted)}`)
  const contents = index.contents(did)
  if (outcome.kind === 'exported') {
    for (const [path, cid] of account.contents())
      if (contents.get(path) !== cid) problems.push(`${path} is missing or another`)
  }
  if (account.fired < fires) problems.push(`its fault happened ${account.fired} times, not ${fires}`)
  if (outcome.kind === 'later' && outcome.leastMs !== undefined && later.get(did)!.dueMs < Date.now() + outcome.leastMs)
    problems.push('is tried again too soon')
  return problems.map((problem) => `${trouble} ${did}: ${problem}`)
}

function settledDids(index: IndexModel, expectations: ReadonlyMap<string, Expectation>): boolean {
  return [...expectations.values()].every(
    ({ account, outcome }) => outcome.kind !== 'exported' || index.repo(account.did).rev === account.repo.rev,
  )
}

/** What waits for a later try, or is just being tried. */
async function scheduled(redis: Awaited<ReturnType<typeof connectRedis>>) {
  const later = new Map<string, { failure: string | undefined; dueMs: number }>()
  for (const { message } of (await redis.xRange('repo_backfill', '-', '+')) ?? []) {
    const { did, failure } = JSON.parse(message.repo!) as BackfillEvent
    later.set(did, { failure, dueMs: Date.now() })
  }
  for (const { value, score } of await redis.zRangeWithScores(retryKey('repo_backfill'), 0, -1)) {
    const { did, failure } = JSON.parse(value) as BackfillEvent
    later.set(did, { failure, dueMs: score })
  }
  return later
}

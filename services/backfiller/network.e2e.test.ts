/**
 * A network of hosts in which everything goes wrong that can: what is good arrives exactly, what is bad has its named
 * outcome, and no host is asked beyond its limits. Two backfillers share the work.
 *
 * 60 hosts and 600 repositories by default; `HOSTS=300 REPOS=5000` is the whole one. `SEED` repeats a run.
 */
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import type { FakePds } from '@sluice/sandbox/testing/fake-pds.ts'
import { setTimeout as delay } from 'node:timers/promises'
import { hostKey, TALLY_FIELDS } from '@sluice/streams/backfill-queue.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { IndexModel } from './testing/index-model.ts'
import { deadOf, drainTo, enqueue, laterOf, QUEUE, type Later } from './testing/queue-view.ts'
import { populate, type Expectation } from './testing/troubled-network.ts'

const HOSTS = Number(process.env.HOSTS ?? 60)
const REPOS = Number(process.env.REPOS ?? 600)
const WITHIN_MS = Number(process.env.WITHIN_MS ?? 120_000)
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

type Expectations = ReadonlyMap<string, Expectation>

test(
  'V4, B2, B3: what is good arrives exactly, what is bad is named, no host is asked too much, and nothing hangs',
  { timeout: WITHIN_MS + 120_000 },
  async ({ redisUrl }) => {
    const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 1e9))
    await using network = await FakeNetwork.start()
    const expectations = await populate(network, new Random(seed), { hosts: HOSTS, repos: REPOS })
    using redis = await connected(redisUrl)
    const env = { ...ENV, REDIS_URL: redisUrl, PLC_URL: network.plcUrl }
    await using one = await startDaemon({ role: 'backfiller', id: 'one', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
    await using two = await startDaemon({ role: 'backfiller', id: 'two', env: { ...env, BACKFILLER_CONSUMER: 'two' } })
    const startedMs = performance.now()
    // Both are there by now: one alone would take all entries of a small queue.
    await enqueue(
      redis.client,
      [...expectations.values()].map(({ account, listed }) => ({
        did: account.did,
        host: account.pds.host,
        rev: listed,
        reason: 'listed',
      })),
    )

    const index = new IndexModel()
    const problems = async (): Promise<string[]> => {
      // The hosts live in this process too: who looks too often starves them.
      await delay(REPOS / 20)
      if ((await drainTo(redis.client, index)) > 0) return ['events arrive']
      const seen = { index, dead: await deadOf(redis.client), later: await laterOf(redis.client) }
      return [...expectations.values()].flatMap((expectation) => differences(expectation, seen)).slice(0, 10)
    }
    await expect.poll(problems, { timeout: WITHIN_MS, interval: 20, message: `seed ${seed}` }).toEqual([])
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    console.log(`${HOSTS} hosts, ${REPOS} repositories, ${index.events} events, seed ${seed}: ${seconds} s`)

    expect(wrongContents(expectations, index)).toEqual([])
    expect(faultsThatDidNotHappen(expectations)).toEqual([])
    for (const host of network.hosts) expectWithinLimits(host)
    await expect.poll(() => wrongTallies(redis.client, expectations)).toEqual([])
    expect(await wrongChains(redis.client, expectations)).toEqual([])
    for (const daemon of [one, two]) {
      const whole = await daemon.metric('sluice_backfill_repos_total', { outcome: 'exported' })
      const again = await daemon.metric('sluice_backfill_repos_total', { outcome: 'resynced' })
      expect(whole + again, 'both have a part in it').toBeGreaterThan(0)
    }
  },
)

async function connected(url: string) {
  const client = await connectRedis({ url, name: 'test' })
  return { client, [Symbol.dispose]: () => client.destroy() }
}

interface Seen {
  index: IndexModel
  dead: ReadonlyMap<string, string>
  later: ReadonlyMap<string, Later>
}

/** Where what came of a repository is not what must. */
function differences({ account, outcome, trouble }: Expectation, { index, dead, later }: Seen): string[] {
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
  if (outcome.kind === 'later' && outcome.leastMs !== undefined) {
    const { dueMs = 0 } = later.get(did) ?? {}
    if (dueMs < Date.now() + outcome.leastMs) problems.push('is tried again too soon')
  }
  return problems.map((problem) => `${trouble} ${did}: ${problem}`)
}

function wrongContents(expectations: Expectations, index: IndexModel): string[] {
  return [...expectations.values()]
    .filter(({ outcome }) => outcome.kind === 'exported')
    .flatMap(({ account, trouble }) => {
      const found = index.contents(account.did)
      const wrong = [...account.contents()].filter(([path, cid]) => found.get(path) !== cid)
      return wrong.map(([path]) => `${trouble} ${account.did}: ${path} is missing or another`)
    })
}

function faultsThatDidNotHappen(expectations: Expectations): string[] {
  return [...expectations.values()]
    .filter(({ account, fires }) => account.fired < fires)
    .map(({ account, fires, trouble }) => `${trouble} of ${account.did}: ${account.fired} times, not ${fires}`)
}

function expectWithinLimits(host: FakePds): void {
  expect(host.busiest, `${host.host} at once`).toBeLessThanOrEqual(CONCURRENCY)
  for (const seconds of [1, 3, 10]) {
    // A second more, since requests that were allowed one after the other may arrive together.
    expect(host.busiestWithin(seconds * 1000), `${host.host} in ${seconds} s`).toBeLessThanOrEqual(
      BURST + PER_SECOND * (seconds + 1),
    )
  }
  // Each 429 is heard by all: what comes after it was on its way already.
  expect(host.ignored, `${host.host} after its 429`).toBeLessThanOrEqual(CONCURRENCY * Math.max(1, host.refused))
}

async function wrongChains(redis: Redis, expectations: Expectations): Promise<string[]> {
  const chains = await readChains(redis, [...expectations.keys()])
  return [...expectations.values()]
    .filter(({ account, outcome }, i) => outcome.kind === 'exported' && chains[i]?.record.rev !== account.repo.rev)
    .map(({ account, trouble }) => `${trouble} ${account.did}`)
}

/** Who looks on sees what came of each host: redirected repositories count where they were asked for. */
async function wrongTallies(redis: Redis, expectations: Expectations): Promise<string[]> {
  const done = new Map<string, number>()
  for (const { account, outcome } of expectations.values()) {
    if (outcome.kind !== 'exported' && outcome.kind !== 'account') continue
    if (account.document === 'tombstoned') continue
    const { host } = account.pds
    done.set(host, (done.get(host) ?? 0) + 1)
  }
  const hosts = [...done.keys()]
  const counted = await Promise.all(hosts.map((host) => redis.hGet(hostKey(QUEUE, host), TALLY_FIELDS.done)))
  const wrong = hosts.filter((host, i) => Number(counted[i] ?? 0) !== done.get(host))
  return wrong.map((host) => `${host}: ${counted[hosts.indexOf(host)]} done instead of ${done.get(host)}`)
}

/**
 * A1, A2, A3: an account ends as its own host says, though that host's clock and ours differ. What we found out is
 * dated by our clock, what the host tells by its own; each of these was hidden, or shown, until its next change.
 */
import { populatedRepo } from '@sluice/atproto/testing/world.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { checking } from './testing/checking.ts'
import { account, poll } from './testing/deletion-scene.ts'
import { append, drained, openRedis, startIndexer } from './testing/indexers.ts'

const LIVE = 'firehose_live'
const BACKFILL = 'firehose_backfill'
const FOUND_MS = Date.UTC(2026, 5, 1, 12)
const STATUSES = [undefined, 'deactivated', 'takendown'] as const
/** A host is this much behind: what it tells a second after we have found something is dated before that. */
const SKEWS_MS = { minutes: -180_000, 'a day': -86_400_000 }

type Status = FakeAccount['status'] | 'deleted'

interface Case {
  name: string
  account: FakeAccount
  found: AccountEvent
  told: AccountEvent
  wanted: string
}

function event(of: string, ms: number, status: Status, seq: number): AccountEvent {
  const time = new Date(ms).toISOString()
  return { type: 'account', seq, time, did: of, active: status === undefined, ...(status !== undefined && { status }) }
}

/** Everything that we may have found, with everything else that the host may have told a second later. */
async function cases(network: FakeNetwork, order: string): Promise<Case[]> {
  const pds = await network.addHost()
  return Object.entries(SKEWS_MS).flatMap(([behind, skewMs]) =>
    STATUSES.flatMap((before) =>
      [...STATUSES, 'deleted' as const].flatMap((after) => {
        if (after === before) return []
        const name = `${before ?? 'active'}, then ${after ?? 'active'}, by a clock that is ${behind} behind, ${order}`
        const one = network.addAccount(populatedRepo(name, 1), pds)
        if (after === 'deleted') pds.accounts.delete(one.did)
        else one.status = after
        const found = event(one.did, FOUND_MS, before, SEQ_BACKFILL)
        const told = event(one.did, FOUND_MS + 1_000 + skewMs, after, 7)
        return [{ name, account: one, found, told, wanted: after === 'deleted' ? 'purged' : (after ?? 'active') }]
      }),
    ),
  )
}

test('A1 A2 A3 what a host with a slow clock says last holds, whatever we found before and whichever arrives first', async ({
  database,
  redisUrl,
}) => {
  await using network = await FakeNetwork.start()
  await using redis = await openRedis(redisUrl)
  const [first, last, together] = await Promise.all(
    ['found first', 'told first', 'in one batch'].map((order) => cases(network, order)),
  )
  // Until they are applied nobody can be asked.
  network.plcIsDown = true
  const env = { PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true' }
  await append(
    redis,
    LIVE,
    together!.flatMap(({ found, told }) => [found, told]),
  )
  await using indexer = await startIndexer({ database, redisUrl }, 'one', env)
  await append(
    redis,
    BACKFILL,
    first!.map(({ found }) => found),
  )
  await append(
    redis,
    LIVE,
    last!.map(({ told }) => told),
  )
  await drained(redis, [LIVE, BACKFILL])
  await append(
    redis,
    LIVE,
    first!.map(({ told }) => told),
  )
  await append(
    redis,
    BACKFILL,
    last!.map(({ found }) => found),
  )
  await drained(redis, [LIVE, BACKFILL])
  network.plcIsDown = false
  // What failed meanwhile waits for its next try.
  await queryOnce(database, `update bsky.account_check set "dueAt" = ''`)
  await queryOnce(database, `update bsky.account_deletion set "dueAt" = '' where state <> 'purged'`)

  const all = [...first!, ...last!, ...together!]
  const statusOf = async (): Promise<Map<string, string>> => {
    const rows = await queryOnce<{ did: string; status: string | null }>(
      database,
      'select did, "upstreamStatus" as status from bsky.actor',
    )
    const found = new Map(rows.map((row) => [row.did, row.status ?? 'active']))
    return new Map(all.map(({ name, account: { did: of } }) => [name, found.get(of) ?? 'purged']))
  }
  await expect
    .poll(statusOf, { timeout: 60_000, interval: 100 })
    .toEqual(new Map(all.map(({ name, wanted }) => [name, wanted])))
  expect(await indexer.metric('sluice_account_checks_total', { outcome: 'differs' })).toBeGreaterThan(0)

  // All that was found and told comes once more.
  await append(
    redis,
    BACKFILL,
    all.map(({ found }) => found),
  )
  await append(
    redis,
    LIVE,
    all.map(({ told }) => told),
  )
  await drained(redis, [LIVE, BACKFILL])
  await queryOnce(database, `update bsky.account_check set "dueAt" = '' where state <> 'asked'`)
  await expect
    .poll(async () => (await queryOnce(database, `select from bsky.account_check where state <> 'asked'`)).length, {
      timeout: 60_000,
      interval: 100,
    })
    .toBe(0)
  expect(await statusOf()).toEqual(new Map(all.map(({ name, wanted }) => [name, wanted])))
})

const at = (minute: number): string => new Date(FOUND_MS + minute * 60_000).toISOString()

test('A3 an answer that crosses what the host tells meanwhile is not written: it is asked again', async ({
  database,
}) => {
  await using scene = await checking(database)
  const { world } = scene
  world.says = 'later'
  await scene.apply(account(at(-9), true))
  await scene.apply(account(at(0), false, 'deactivated'))
  await expect.poll(() => world.later.length, poll).toBe(1)
  // It is back, by a clock that is three minutes behind.
  await scene.apply(account(at(-3), true))
  world.says = 'active'
  world.later[0]!('deactivated')
  await expect.poll(scene.status, poll).toEqual([{ upstreamStatus: null }])
  await expect.poll(scene.metrics, poll).toMatch(/account_checks_total\{outcome="overtaken"\} 1/)
})

test('A2 A3 who has no host that could be asked is not deleted by that: the times decide until one says so', async ({
  database,
}) => {
  await using scene = await checking(database)
  const { world } = scene
  world.says = 'homeless'
  await scene.apply(account(at(-9), true), account(at(0), false, 'deactivated'))
  await expect.poll(scene.metrics, poll).toMatch(/account_checks_total\{outcome="unknown"\} [3-9]/)
  expect([await scene.status(), await scene.check()]).toEqual([
    [{ upstreamStatus: 'deactivated' }],
    [{ state: 'failing' }],
  ])
  world.says = 'gone'
  await expect.poll(scene.status, poll).toEqual([{ upstreamStatus: 'deleted' }])
  expect(await scene.check()).toEqual([{ state: 'asked' }])
})

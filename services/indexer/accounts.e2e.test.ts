/**
 * A1, A2, A4: lives of accounts on a real PDS end as the official AppView has them: in the order in which they
 * happened, and shuffled, with every event delivered twice.
 */
import { startDaemon, type Daemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork, type Network } from '@sluice/sandbox/network.ts'
import { startOfficialAppView } from '@sluice/sandbox/official-appview.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { openRedis } from './testing/indexers.ts'

const STREAM = 'firehose_live'

interface ActorRow {
  did: string
  handle: string | null
  upstreamStatus: string | null
  takedownRef: string | null
}

async function post({ agent, did }: Account, text: string): Promise<void> {
  await agent.com.atproto.repo.createRecord({
    repo: did,
    collection: 'app.bsky.feed.post',
    record: { $type: 'app.bsky.feed.post', text, createdAt: new Date().toISOString() },
  })
}

async function rename({ agent }: Account, handle: string): Promise<void> {
  await agent.com.atproto.identity.updateHandle({ handle })
}

const NAMES = ['alice', 'bobby', 'carol', 'david', 'erika', 'frank', 'grace'] as const

type People = Record<(typeof NAMES)[number], Account>

async function settle({ pds }: Network): Promise<People> {
  const people: Partial<People> = {}
  for (const name of NAMES) people[name] = await pds.createAccount(name)
  for (const person of Object.values(people)) await post(person, 'the first')
  return people as People
}

/** Who changes, who leaves, who comes back. */
async function live({ pds }: Network, people: People): Promise<void> {
  const { alice, bobby, carol, david, erika, frank, grace } = people
  await rename(grace, 'gracious.test')
  // They swap.
  await rename(alice, 'meanwhile.test')
  await rename(bobby, 'alice.test')
  await rename(alice, 'bobby.test')
  await carol.agent.com.atproto.server.deactivateAccount({})
  await carol.agent.com.atproto.server.activateAccount()
  await post(carol, 'back again')
  await pds.deleteAccount(david.did)
  await pds.takeDown(erika.did, true)
  await frank.agent.com.atproto.server.deactivateAccount({})
}

async function actors(url: string): Promise<ActorRow[]> {
  return await queryOnce<ActorRow>(
    url,
    'select did, handle, "upstreamStatus", "takedownRef" from bsky.actor order by did',
  )
}

/** @throws when it does not become so, with what it was instead */
async function become<T>(read: () => Promise<T>, wanted: T, ms = 30_000): Promise<void> {
  const deadline = Date.now() + ms
  for (;;) {
    const found = await read()
    if (JSON.stringify(found) === JSON.stringify(wanted) || Date.now() > deadline) return expect(found).toEqual(wanted)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}

test('A1 A2 A4 lives of accounts end as the official AppView has them, also with every event again, twice and shuffled', async ({
  database,
  otherDatabase,
  emptyDatabase,
  redisUrl,
}) => {
  await using network = await startNetwork()
  await using official = await startOfficialAppView(network, { postgresUrl: emptyDatabase, redisUrl })
  const common = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true', LOG_LEVEL: 'warn' }
  await using redis = await openRedis(redisUrl)
  const indexerOn = (url: string): Promise<Daemon> =>
    startDaemon({ role: 'indexer', env: { ...common, DB_POSTGRES_URL: url, INDEXER_CONSUMER: 'one' } })
  const agree = async (url: string): Promise<void> => {
    await official.caughtUp()
    await become(() => redis.xLen(STREAM), 0)
    await become(() => actors(url), await actors(emptyDatabase))
  }

  const ingesterEnv = {
    ...common,
    RELAY_HOSTS: network.pds.url,
    INGESTER_MODE: 'firehose',
    INGESTER_INITIAL_CURSOR: '0',
  }
  const ingested = async (): Promise<void> => {
    const cursor = `${STREAM}:cursor:${new URL(network.pds.url).host}`
    await become(() => redis.get(cursor), String(await network.pds.server.ctx.sequencer.curr()))
  }
  const people = await settle(network)
  {
    await using _ = await startDaemon({ role: 'ingester', env: ingesterEnv })
    await using indexer = await indexerOn(database)
    await ingested()
    await agree(database)
    await live(network, people)
    await ingested()
    await agree(database)
    expect(await indexer.metric('sluice_account_deletions_total', { outcome: 'purged' })).toBe(1)
  }
  const stateOf = async (name: keyof People) => (await actors(database)).find(({ did }) => did === people[name].did)
  expect(await stateOf('alice')).toMatchObject({ handle: 'bobby.test', upstreamStatus: null })
  expect(await stateOf('bobby')).toMatchObject({ handle: 'alice.test', upstreamStatus: null })
  expect(await stateOf('carol')).toMatchObject({ handle: 'carol.test', upstreamStatus: null })
  expect(await stateOf('david')).toBeUndefined()
  expect(await stateOf('erika')).toMatchObject({ handle: 'erika.test', upstreamStatus: 'takendown' })
  expect(await stateOf('frank')).toMatchObject({ handle: 'frank.test', upstreamStatus: 'deactivated' })

  // All that the PDS still tells, as another ingester hears it, once in a database that knows it and once in one that
  // does not.
  await redis.flushDb()
  {
    await using _ = await startDaemon({ role: 'ingester', env: ingesterEnv })
    await ingested()
  }
  const events = (await redis.xRange(STREAM, '-', '+')) ?? []
  expect(events.length).toBeGreaterThan(20)
  const wanted = await actors(emptyDatabase)
  const visible = (rows: ActorRow[]) =>
    rows.map((row) => (row.upstreamStatus === null ? row : { ...row, handle: 'hidden' }))
  for (const [url, seed] of [
    [database, 1],
    [otherDatabase, 2],
  ] as const) {
    await redis.del(STREAM)
    for (const { message } of new Random(seed).shuffled([...events, ...events])) await redis.xAdd(STREAM, '*', message)
    await using indexer = await indexerOn(url)
    await become(() => redis.xLen(STREAM), 0)
    await become(async () => visible(await actors(url)), visible(wanted))
    expect(await indexer.metric('sluice_account_deletions_total', { outcome: 'purged' })).toBe(url === database ? 0 : 1)
    expect(await queryOnce(url, 'select uri from bsky.record where did = $1', [people.david.did])).toEqual([])
    // Who is hidden keeps what they have.
    for (const { did } of [people.erika, people.frank])
      expect(await queryOnce(url, 'select uri from bsky.post where creator = $1', [did])).toHaveLength(1)
  }
  expect(await actors(database)).toEqual(wanted)
})

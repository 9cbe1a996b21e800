/**
 * A spot audit of a running index, against a real PDS: what is wrong is found, and what is only late, or cannot be
 * looked at, is not called wrong.
 */
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { moveChain, readChains } from '@sluice/streams/chain-state.ts'
import { Audit } from './audit.ts'
import type { NotChecked } from './audit.ts'
import { Network } from './network.ts'
import { Output } from './output.ts'
import { Session } from './session.ts'
import { Standings } from './standing.ts'
import { runCli } from './testing/run.ts'

interface Told {
  sampled: number
  checked: number
  wrong: number
  records: number
  counts: Record<string, number>
  notChecked: Record<string, number>
  accounts: { did: string; pds: string; differing: { uri: string; difference: string }[] }[]
  left: NotChecked[]
  repaired: number
}

const POSTS = 5
const WAIT = { timeout: 60_000, interval: 50 }
const NEVER = new AbortController().signal
const NOTHING = { missing: 0, extra: 0, stale: 0, 'without-rows': 0 }

async function post({ agent, did }: Account, text: string): Promise<string> {
  const record = { $type: 'app.bsky.feed.post', text, createdAt: new Date().toISOString() }
  const { data } = await agent.com.atproto.repo.createRecord({ repo: did, collection: record.$type, record })
  return data.uri
}

async function drained(redis: Redis): Promise<void> {
  const streams = ['firehose_live', 'repo_backfill', 'firehose_backfill']
  const left = async () => (await Promise.all(streams.map((stream) => redis.xLen(stream)))).reduce((a, b) => a + b)
  await expect.poll(left, WAIT).toBe(0)
}

test('of accounts of a real PDS the one with a missing record is found, and mended; those that are late, inactive or away are not wrong', async ({
  database,
  redisUrl,
}) => {
  await using network = await startNetwork()
  const env = { REDIS_URL: redisUrl, DB_POSTGRES_URL: database, PLC_URL: network.plcUrl, RELAY_HOSTS: network.pds.url, ALLOW_PRIVATE_HOSTS: 'true' } // prettier-ignore
  const sluice = (...args: string[]) => runCli(args, { ...env, METRICS_PORT: '0' })
  const sample = async (...args: string[]): Promise<Told & { code: number }> => {
    const { code, stdout, stderr } = await sluice('verify', '--sample', '50', '--json', ...args)
    expect(stderr).toBe('')
    return { code, ...(JSON.parse(stdout) as Told) }
  }
  const names = ['alice', 'berta', 'carol', 'daisy', 'elias', 'frank']
  const people: Account[] = []
  for (const name of names) people.push(await network.pds.createAccount(name))
  const [alice, berta, carol, daisy] = people as [Account, Account, Account, Account]
  const uris: string[] = []
  for (const person of people) for (let i = 0; i < POSTS; i++) uris.push(await post(person, `${i}`))
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const rows = async () => (await queryOnce(database, 'select uri from bsky.record')).length
  try {
    await using _ingester = await startDaemon({ role: 'ingester', env: { ...env, INGESTER_MODE: 'all', LABELER_HOSTS: '' } }) // prettier-ignore
    await using _backfiller = await startDaemon({ role: 'backfiller', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
    await using indexer = await startDaemon({ role: 'indexer', env: { ...env, INDEXER_CONSUMER: 'one' } })
    await expect.poll(rows, WAIT).toBe(uris.length)
    await drained(redis)
    expect(await sample()).toMatchObject({ code: 0, sampled: 6, checked: 6, wrong: 0, records: uris.length, counts: NOTHING, notChecked: {} }) // prettier-ignore

    // A record is lost, with its row; so is another's row alone.
    await queryOnce(database, `delete from bsky.post where uri in ('${uris[0]}', '${uris[POSTS]}')`)
    await queryOnce(database, `delete from bsky.record where uri = '${uris[0]}'`)
    const found = await sample()
    expect(found).toMatchObject({ code: 1, checked: 6, wrong: 2, counts: { ...NOTHING, missing: 1, 'without-rows': 1 } }) // prettier-ignore
    const differing = Object.fromEntries(found.accounts.map((account) => [account.did, account.differing]))
    expect(differing).toEqual({
      [alice.did]: [{ uri: uris[0], difference: 'missing' }],
      [berta.did]: [{ uri: uris[POSTS], difference: 'without-rows' }],
    })
    const people = await sluice('verify', '--sample', '50')
    expect(people.stdout).toContain(`${alice.did} at ${network.pds.url}: 1 missing, 0 extra, 0 stale, 0 without-rows, of ${POSTS} records\n`) // prettier-ignore
    expect(people.stdout).toContain('6 of 6 accounts checked, with 30 records: 1 missing, 0 extra, 0 stale, 1 without-rows') // prettier-ignore
    expect(await sample('--repair')).toMatchObject({ code: 0, wrong: 2, repaired: 2 })
    await drained(redis)
    expect(await sample()).toMatchObject({ code: 0, wrong: 0 })

    // What came after the indexer stood still is under way, and wrong is only what is missing when it has come.
    indexer.pause()
    const late = await post(alice, 'late')
    await expect.poll(() => redis.xLen('firehose_live'), WAIT).toBe(1)
    await using session = new Session(env, new Output({ json: true, colour: false, write: () => {} }), NEVER)
    await using asked = new Network(session.settings, NEVER)
    const audit = (standings: Pick<Standings, 'of'>) =>
      new Audit({ session, network: asked, standings, collections: new CollectionSet(collections), repair: false })
    const impatient = new Standings(await session.redis(), session.settings, 500)
    const account = await asked.account(alice.did)
    expect(await audit(impatient).check(account)).toMatchObject({ did: alice.did, reason: 'under-way' })
    const patient = new Standings(await session.redis(), session.settings)
    let waited = 0
    const meanwhile: Pick<Standings, 'of'> = {
      async of(repo, signal) {
        waited++
        indexer.resume()
        return patient.of(repo, signal)
      },
    }
    expect(await audit(meanwhile).check(account)).toMatchObject({ comparison: { records: POSTS + 1, differing: [] } })
    expect(waited).toBe(1)
    expect(await queryOnce(database, `select uri from bsky.record where uri = '${late}'`)).toEqual([{ uri: late }])

    // A repository that is to be fetched anyway lacks something, and everybody knows.
    await queryOnce(database, `delete from bsky.record where uri = '${late}'`)
    const [chain] = await readChains(redis, [alice.did])
    const wanted = moveChain(alice.did, chain, { ...chain!.record, resync: { need: '', askedAt: 1 } })
    await redis.hSet(wanted.key, wanted.field, wanted.to)
    await carol.agent.com.atproto.server.deactivateAccount({})
    await network.pds.takeDown(daisy.did, true)
    const some = await sample()
    expect(some).toMatchObject({ code: 0, sampled: 6, checked: 3, wrong: 0 })
    expect(some.notChecked).toEqual({ 'to-be-fetched': 1, 'repo-deactivated': 1, 'repo-takendown': 1 })

    await network.pds.stop()
    const away = await sluice('verify', '--sample', '50')
    expect(away).toMatchObject({ code: 69, stderr: '' })
    expect(away.stdout).toContain('0 of 6 accounts checked')
    expect(away.stdout).toContain('not checked: 6 host-away')
    await network.pds.start()
  } finally {
    redis.destroy()
  }
})

test('a host that asks for a pause is left alone, and holds up no other', async ({ database, redisUrl }) => {
  await using network = await FakeNetwork.start()
  const [busy, quick] = [await network.addHost(), await network.addHost()]
  const accounts = Array.from({ length: 10 }, (_, i) => {
    const repo = new TestRepo(`did:plc:${'abcdefghij'[i]}${'a'.repeat(23)}`)
    repo.write([{ path: 'com.example.other/one', record: { $type: 'com.example.other' } }])
    return network.addAccount(repo, i < 5 ? busy : quick)
  })
  for (const account of accounts.slice(0, 5)) account.fault = { kind: 'status', status: 429, error: 'RateLimitExceeded' } // prettier-ignore
  accounts[9]!.document = 'tombstoned'
  const dids = accounts.map(({ did }) => `('${did}', '')`).join()
  await queryOnce(database, `insert into bsky.actor_sync (did, "commitCid") values ${dids}`)
  const env = { REDIS_URL: redisUrl, DB_POSTGRES_URL: database, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true' }
  const { code, stdout } = await runCli(['verify', '--sample', '10', '--json'], { ...env, METRICS_PORT: '0' })
  expect({ code, ...(JSON.parse(stdout) as Told) }).toMatchObject({ code: 0, checked: 4, wrong: 0, notChecked: { 'rate-limited': 5, identity: 1 } }) // prettier-ignore
  expect(accounts.reduce((sum, { fired }) => sum + fired, 0)).toBe(1)
})

test('an account or a sample has to be named, and not both', async () => {
  const did = `did:plc:${'a'.repeat(24)}`
  for (const args of [[], [did, '--sample', '3'], ['--sample', '0'], ['--sample', 'all']]) {
    expect((await runCli(['verify', ...args], {})).code).toBe(2)
  }
})

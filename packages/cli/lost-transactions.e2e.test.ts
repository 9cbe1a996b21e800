/**
 * The last transactions of PostgreSQL are lost: its asynchronous standby had not received them when it was promoted.
 * What docs/operations.md says is done then, against a real network, and the index is what it was before.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import { differences, type Snapshot, snapshot } from '@sluice/indexing/testing/snapshot.ts'
import { startDaemon } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startNetwork } from '@sluice/sandbox/network.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import { type Postgres, startPostgres } from '@sluice/sandbox/postgres.ts'
import { startStandby } from '@sluice/sandbox/standby.ts'
import { migrateAll, SCHEMA } from '@sluice/sandbox/template.ts'
import { connectRedis } from '@sluice/streams/connection.ts'
import { cursorKey } from '@sluice/streams/cursors.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { FaultyProxy } from '@sluice/streams/testing/proxy.ts'
import { runCli } from './testing/run.ts'

const WAIT = { timeout: 60_000, interval: 50 }
const STREAMS = ['firehose_live', 'repo_backfill', 'repo_backfill_priority', 'firehose_backfill']

interface Ref {
  uri: string
  cid: string
}

async function write({ agent, did }: Account, collection: string, fields: object, rkey?: string): Promise<Ref> {
  const record = { $type: `app.bsky.${collection}`, ...fields, createdAt: new Date().toISOString() }
  const { data } = await agent.com.atproto.repo.createRecord({ repo: did, collection: record.$type, record, ...(rkey && { rkey }) }) // prettier-ignore
  return { uri: data.uri, cid: data.cid }
}

const keyOf = ({ uri }: Ref): string => uri.split('/').at(-1)!

/** All content, but for what tells that a repository was fetched again. */
async function contentOf(url: string): Promise<Snapshot> {
  await using db = new DatabasePool({ url, schema: SCHEMA, size: 2, role: 'test' })
  const all = await snapshot(db, { withoutTimes: true })
  const heads = all.actor_sync!.map((row) => {
    const { did, repoRev, commitCid } = JSON.parse(row) as Record<string, unknown>
    return JSON.stringify({ did, repoRev, commitCid })
  })
  return { ...all, actor_sync: heads }
}

/** The connection of a standby to its primary, as a network breaks it: the primary goes on. */
async function cutOff(standby: Postgres, primary: Postgres): Promise<void> {
  await standby.query(`alter system set primary_conninfo = ''`)
  await standby.query('select pg_reload_conf()')
  await expect.poll(() => primary.query('select from pg_stat_replication'), WAIT).toEqual([])
}

test('D2: an asynchronous standby lacks the last transactions, one of them between a commit and what settling made of it: after the documented steps nothing is missing', async ({
  redisUrl,
}) => {
  await using network = await startNetwork()
  const { pds } = network
  const [alice, bob, carol, dora] = await Promise.all(['alice', 'bobby', 'carol', 'doris'].map((name) => pds.createAccount(name))) as [Account, Account, Account, Account] // prettier-ignore
  await using connections = new AsyncDisposableStack()
  const redis = connections.adopt(await connectRedis({ url: redisUrl, name: 'test' }), (client) => client.destroy())
  await using primary = await startPostgres({ settings: { fsync: 'off' } })
  const own = await primary.createDatabase('own')
  await migrateAll(own)
  await using standby = await startStandby(primary)
  await using proxy = await FaultyProxy.start(primary.url())
  const database = Object.assign(new URL(own), { port: new URL(proxy.url()).port }).href
  const env = { REDIS_URL: redisUrl, PLC_URL: network.plcUrl, ALLOW_PRIVATE_HOSTS: 'true' }
  const withIndex = { ...env, DB_POSTGRES_URL: database }
  const upstream = { RELAY_HOSTS: pds.url, LABELER_HOSTS: '' }
  const sluice = async (...args: string[]) => {
    const said = await runCli(args, { ...withIndex, ...upstream, METRICS_PORT: '0' })
    expect(said, args.join(' ')).toMatchObject({ code: 0, stderr: '' })
  }
  const startIngester = () => startDaemon({ role: 'ingester', env: { ...env, ...upstream } })
  await using _indexer = await startDaemon({ role: 'indexer', env: { ...withIndex, INDEXER_CONSUMER: 'one' } })
  await using _backfiller = await startDaemon({ role: 'backfiller', env: { ...env, BACKFILLER_CONSUMER: 'one' } })
  const sql = (server: Postgres, text: string) => server.query<Record<string, unknown>>(text, [], 'own')
  const records = async (server: Postgres) => (await sql(server, `select uri from ${SCHEMA}.record order by uri`)).map(({ uri }) => uri) // prettier-ignore
  const cursor = cursorKey('firehose_live', pds.url)
  const arrived = async () => {
    await expect.poll(async () => Number(await redis.get(cursor)), WAIT).toBe(await pds.server.ctx.sequencer.curr())
    await expect.poll(async () => Promise.all(STREAMS.map((stream) => redis.xLen(stream))), WAIT).toEqual([0, 0, 0, 0])
  }
  const ingester = await startIngester()
  const first = await write(alice, 'feed.post', { text: 'first' })
  const liked = await write(carol, 'feed.like', { subject: first })
  await arrived()
  await expect.poll(() => records(standby), WAIT).toContain(liked.uri)

  // The gate is applied, and its mark on the post waits for a lock when the standby hears the last of its primary.
  const since = new Date().toISOString()
  await using direct = new DatabasePool({ url: own, schema: SCHEMA, size: 1, role: 'test' })
  const holder = await direct.acquire()
  await holder.query('begin')
  await holder.query(`select from ${SCHEMA}.post where uri = '${first.uri}' for update`)
  const rules = { embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] }
  const gate = await write(alice, 'feed.postgate', { post: first.uri, ...rules }, keyOf(first))
  await expect.poll(() => records(standby), WAIT).toContain(gate.uri)
  await expect.poll(() => sql(primary, `select from pg_stat_activity where wait_event_type = 'Lock'`), WAIT).toHaveLength(1) // prettier-ignore
  await cutOff(standby, primary)
  await holder.query('commit')
  holder.release()
  // With a later head, the export that repeats the gate is no news of it.
  await write(alice, 'feed.post', { text: 'second' })
  await write(bob, 'feed.post', { text: 'an answer', reply: { root: first, parent: first } })
  await carol.agent.com.atproto.repo.deleteRecord({ repo: carol.did, collection: 'app.bsky.feed.like', rkey: keyOf(liked) }) // prettier-ignore
  await write(carol, 'graph.follow', { subject: alice.did })
  await dora.agent.com.atproto.server.deactivateAccount({})
  const erin = await pds.createAccount('erin')
  await write(erin, 'feed.repost', { subject: first })
  await arrived()
  const handles = () => sql(primary, `select from ${SCHEMA}.actor where handle is not null`)
  await expect.poll(handles, WAIT).toHaveLength(5)
  const before = await contentOf(own)
  await primary.kill('SIGKILL')
  expect((await contentOf(standby.url('own'))).post!.join()).not.toContain('an answer')
  expect(await records(standby)).toEqual([first.uri, gate.uri, liked.uri].toSorted())
  proxy.leadTo(standby.url())
  proxy.cutAll()
  await standby.query('select pg_promote()')
  await expect.poll(async () => (await listIncidents(redis, 9)).map(({ kind }) => kind), WAIT).toEqual(['database-promoted']) // prettier-ignore

  await ingester.stop()
  await redis.set(cursor, '0')
  await using _again = await startIngester()
  await sluice('backfill', 'since', since)
  await arrived()
  const left = async () => differences(before, await contentOf(database))
  const mark = expect.stringMatching(`^post (has  |lacks) .*${first.uri}`) as string
  await expect.poll(left, WAIT).toEqual([mark, mark])
  await sluice('settle', 'since', since)
  await sluice('recount')
  await sluice('verify', '--sample', '200')
  await sluice('incidents', 'clear')
  await expect.poll(left, WAIT).toEqual([])
})

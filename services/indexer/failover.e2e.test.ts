/** A real standby is promoted under a running indexer, as by a failover behind one address. */
import { labelEventCodec } from '@sluice/events/codec.ts'
import { history } from '@sluice/indexing/testing/history.ts'
import { differences } from '@sluice/indexing/testing/snapshot.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startPostgres } from '@sluice/sandbox/postgres.ts'
import { STANDBY, startStandby } from '@sluice/sandbox/standby.ts'
import { migrateAll, SCHEMA } from '@sluice/sandbox/template.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { FaultyProxy } from '@sluice/streams/testing/proxy.ts'
import { TIMELINE_KEY } from './failover-watch.ts'
import { append, drained, naturalRows, openRedis, rowsOf, startIndexer } from './testing/indexers.ts'

const events = history({ seed: 12, events: 400 })

test('D2, D5: the primary dies under load and its synchronous standby is read-only, then promoted: the indexer waits, nothing that was acked is missing, and the failover is an incident', async ({
  database,
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await using primary = await startPostgres({ settings: { fsync: 'off' } })
  await migrateAll(await primary.createDatabase('own'))
  await using standby = await startStandby(primary)
  await primary.query(`alter system set synchronous_standby_names = '${STANDBY}'`)
  await primary.query('select pg_reload_conf()')
  const replication = () => primary.query('select state, sync_state from pg_stat_replication')
  await expect.poll(replication).toEqual([{ state: 'streaming', sync_state: 'sync' }])
  await using proxy = await FaultyProxy.start(primary.url())
  const byName = Object.assign(new URL(primary.url('own')), { port: new URL(proxy.url()).port }).href
  await using indexer = await startIndexer({ database: byName, redisUrl }, 'one', { INDEXER_BATCH_SIZE: '10' })

  await expect.poll(() => redis.get(TIMELINE_KEY)).toBe('00000001')
  await append(redis, 'firehose_live', events)
  await expect.poll(() => redis.xLen('firehose_live'), { interval: 5 }).toBeLessThan(events.length - 50)
  await primary.kill('SIGKILL')
  expect(await redis.xLen('firehose_live'), 'it had work left').toBeGreaterThan(0)
  proxy.leadTo(standby.url())
  proxy.cutAll()
  await expect.poll(async () => (await indexer.get('/ready')).body).toMatch(/postgres: applying .*25006/)
  expect(await redis.exists('firehose_live_dlq')).toBe(0)

  await standby.query('select pg_promote()')
  await drained(redis, ['firehose_live'])
  await expect.poll(async () => (await indexer.get('/ready')).status).toBe(200)
  expect(await redis.exists('firehose_live_dlq')).toBe(0)
  expect(differences(await naturalRows(database, events), await rowsOf(standby.url('own')))).toEqual([])
  const kinds = async () => (await listIncidents(redis, 10)).map(({ kind }) => kind)
  await expect.poll(kinds).toEqual(['database-promoted'])
  expect((await listIncidents(redis, 1))[0]!.what).toContain('timeline 2, and was on 1')
})

test('D2: what a redelivered entry finds already done is acked only when the synchronous standby has it too', async ({
  redisUrl,
}) => {
  await using redis = await openRedis(redisUrl)
  await using primary = await startPostgres({ settings: { fsync: 'off' } })
  const own = await primary.createDatabase('own')
  await using _indexer = await startIndexer({ database: own, redisUrl }, 'one')
  const label = { src: 'did:plc:labeler', uri: 'did:plc:subject', val: 'spam', cts: '2026-01-01T00:00:00.000Z' }
  const streams = ['firehose_live', 'label_live']
  const deliverLabel = () => redis.xAdd('label_live', '*', labelEventCodec.encode({ type: 'label', label }))
  const deliverEvent = () => append(redis, 'firehose_live', events.slice(0, 1))
  await deliverLabel()
  await deliverEvent()
  await drained(redis, streams)

  // Of this name there is none, so that whatever writes WAL waits at its commit.
  await primary.query(`alter system set synchronous_standby_names = 'away'`)
  await primary.query('select pg_reload_conf()')
  const waiting = async () =>
    (await primary.query(`select from pg_stat_activity where wait_event = 'SyncRep' and query = 'commit'`)).length
  await deliverLabel()
  await expect.poll(waiting).toBe(1)
  await deliverEvent()
  await expect.poll(waiting).toBe(2)
  expect(await Promise.all(streams.map((stream) => redis.xLen(stream)))).toEqual([1, 1])
  await primary.query(`alter system reset synchronous_standby_names`)
  await primary.query('select pg_reload_conf()')
  await drained(redis, streams)
})

test('A1: after a failover to a standby that lacked the last transactions, an account whose first events it lacks gets its actor with the next one', async ({
  redisUrl,
}) => {
  const [first, second] = [...Map.groupBy(events, ({ did }) => did).values()].find(({ length }) => length > 1)!
  await using redis = await openRedis(redisUrl)
  await using postgres = await startPostgres()
  const own = await postgres.createDatabase('own')
  await migrateAll(own)
  await postgres.createDatabase('standby', 'own')
  await using indexer = await startIndexer({ database: own, redisUrl }, 'one')
  const actors = async () => (await postgres.query<{ did: string }>(`select did from ${SCHEMA}.actor`, [], 'own')).map(({ did }) => did) // prettier-ignore
  await append(redis, 'firehose_live', [first!])
  await drained(redis, ['firehose_live'])
  expect(await actors()).toEqual([first!.did])

  // The address leads to the other one from now on, and no session survives that.
  await postgres.query('alter database own allow_connections false')
  const cut = await postgres.query(`select pg_terminate_backend(pid) from pg_stat_activity where datname = 'own'`)
  await postgres.query('begin; alter database own rename to lost; alter database standby rename to own; commit')
  expect(cut.length).toBeGreaterThan(0)
  expect(await actors()).toEqual([])
  await append(redis, 'firehose_live', [second!])
  await drained(redis, ['firehose_live'])
  expect(await actors()).toEqual([first!.did])
  expect(indexer.isRunning).toBe(true)
})

/** O1: what the indexer counts and measures beside the streams, from a database as it is. */
import type { RecordEvent } from '@sluice/events/stream-event.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { parseMetric } from '@sluice/sandbox/daemon.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { AccountChecks } from './check-accounts.ts'
import { Deletions } from './delete-accounts.ts'
import { LabelIndex } from './label-index.ts'
import { RecordIndex } from './record-index.ts'
import { Handles } from './resolve-handles.ts'
import { LaterSettling } from './settle-later.ts'

const identity = { role: 'indexer', build: 'b' }
const log = createLogger({ ...identity, level: 'silent' })
const { signal } = new AbortController()
const DID = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
const CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'

function post(rev: string, text: string): RecordEvent {
  const time = '2026-01-01T00:00:00.000Z'
  const record = { $type: 'app.bsky.feed.post', text, createdAt: time }
  const path = { collection: 'app.bsky.feed.post', rkey: '3kaaaaaaaaaa2' }
  return { type: 'create', seq: 1, time, did: DID, commit: CID, rev, ...path, cid: CID, record }
}

function outages() {
  return { log, readiness: new Readiness(), retries: { inc: () => {} }, reasons: new Map<symbol, string>() }
}

const noTurn = <T>(wait: () => Promise<T>): Promise<T> => wait()

test('O1 what events did to records, how many were applied, and how long each batch took', async ({ database }) => {
  await using index = indexOn(database)
  const metrics = new Metrics(identity)
  const records = new RecordIndex(index, outages(), { record: () => {} }, metrics)
  const [first, second, gone] = [post('3kaaaaaaaaaa2', 'a'), post('3kaaaaaaaaab2', 'b'), post('3kaaaaaaaaac2', 'c')]
  const { type: _type, cid: _cid, record: _record, ...head } = gone as RecordEvent & { type: 'create' }
  const batches: RecordEvent[][] = [[first], [second], [first], [{ ...head, type: 'delete' }]]
  for (const batch of batches) await records.apply(batch, signal, noTurn)
  const text = await metrics.render()
  const of = (outcome: string) => parseMetric(text, 'sluice_indexer_records_total', { outcome })[0]
  expect(['inserted', 'replaced', 'stale', 'removed', 'settled'].map(of)).toEqual([1, 1, 1, 1, 0])
  expect(parseMetric(text, 'sluice_indexer_events_total', {})).toEqual([4])
  expect(parseMetric(text, 'sluice_indexer_batch_seconds_count', {})).toEqual([4])
})

test('O1 labels that changed a row, and those that brought nothing new', async ({ database }) => {
  await using index = indexOn(database)
  const metrics = new Metrics(identity)
  const labels = new LabelIndex(index.db, outages(), metrics)
  const label = (val: string) => ({
    type: 'label' as const,
    seq: 1,
    label: { src: DID, uri: DID, val, cts: '2026-01-01T00:00:00.000Z' },
  })
  await labels.apply([label('one'), label('two')], signal, noTurn)
  await labels.apply([label('one'), label('three'), label('two')], signal, noTurn)
  const text = await metrics.render()
  const of = (outcome: string) => parseMetric(text, 'sluice_indexer_labels_total', { outcome })[0]
  expect([of('changed'), of('stale')]).toEqual([3, 2])
})

test('O1 of every queue it is told for how long the first of it has been due, and of what is not due nothing', async ({
  database,
}) => {
  await using index = indexOn(database)
  const metrics = new Metrics(identity)
  const { db } = index
  // None of them runs, so nobody is asked and nothing is taken from its queue.
  const nobody = { identities: {} as never, xrpc: {} as never, log, metrics }
  const services = [
    new AccountChecks({ ...nobody, db }),
    new Deletions({ ...nobody, index, redis: {} as never, producer: {} as never }),
    new LaterSettling({ index, log, metrics }),
    new Handles({ ...nobody, db, handles: {} as never, concurrency: 1, schedule: {} as never }),
  ]
  expect(services.map(({ name }) => name)).toEqual(['account-checks', 'deletions', 'settling', 'handles'])
  const ago = (seconds: number): string => new Date(Date.now() - seconds * 1_000).toISOString()
  const rows: [statement: string, queues: string[]][] = [
    ['insert into account_check (did, state, "dueAt", tries) values ($1, $2, $3, 0)', ['new', 'failing']],
    [
      `insert into account_deletion (did, state, "deletedAt", "dueAt", tries)
       values ($1, case $2 when 'returned' then 'returned' else 'reported' end, $3, $3, case $2 when 'failing' then 1 else 0 end)`,
      ['returned', 'new', 'failing'],
    ],
    [
      'insert into handle_check (did, queue, "dueAt", "askedAt", tries) values ($1, $2, $3, \'\', 0)',
      ['new', 'again', 'failing'],
    ],
    [
      `insert into settle_later (uri, "dueAt", tries) values ($1, $3, case $2::text when 'first' then 0 else 1 end)`,
      ['first', 'again'],
    ],
  ]
  const names = ['account_check', 'account_deletion', 'handle', 'settle_later']
  const told = async () => {
    const text = await metrics.render()
    return names.map((name, i) =>
      rows[i]![1].map((queue) => Math.round(parseMetric(text, `sluice_${name}_overdue_seconds`, { queue })[0]! / 100)),
    )
  }
  expect(await told()).toEqual([
    [0, 0],
    [0, 0, 0],
    [0, 0, 0],
    [0, 0],
  ])
  for (const [statement, queues] of rows) {
    for (const [i, queue] of queues.entries()) {
      await db.query(statement, [`${queue} first`, queue, ago(1_000 * (i + 1))])
      await db.query(statement, [`${queue} second`, queue, ago(-1_000)])
    }
  }
  expect(await told()).toEqual([
    [10, 20],
    [10, 20, 30],
    [10, 20, 30],
    [10, 20],
  ])
  expect(parseMetric(await metrics.render(), 'sluice_settle_later_waiting', {})).toEqual([4])
  expect(parseMetric(await metrics.render(), 'sluice_metrics_collect_failures_total', {})).toEqual([0])
})

/** Where each rule begins: what is just within its limit is no finding, what is just beyond it is one. */
import { expect, test } from 'vitest'
import { readSettings } from '../config.ts'
import { readMetrics } from '../daemon-state.ts'
import { POSTGRES, REDIS, SERVER, stateOf, type PostgresState, type RedisState } from '../testing/healthy.ts'
import { diagnose } from './diagnose.ts'
import { LIMITS } from './finding.ts'

type Given = Parameters<typeof stateOf>[0]
type Stream = RedisState['streams'][number]

const found = (given: Given): string[] => diagnose(stateOf(given)).map(({ severity, id }) => `${severity} ${id}`)

const NO_LETTERS = { total: 0, reasons: {}, cap: 10 }

function streamOf(stream: string, given: Partial<Stream> = {}): Stream {
  return { stream, exists: true, entries: 0, bytes: 1, lagSeconds: 0, groups: [], deadLetters: NO_LETTERS, ...given }
}

function groupOf(group: string, consumers: Stream['groups'][number]['consumers'] = []): Stream['groups'][number] {
  return { group, pending: 0, lastDeliveredId: '1-1', lagSeconds: 0, consumers }
}

const alive = (stream: string, group: string): RedisState['living'] => [
  { stream, group, consumer: 'one', process: 'a host pid 1' },
]

/** A stream that the consumer `one` reads. */
function read(stream: string, group: string, given: Partial<Stream> = {}): Given {
  return { redis: { streams: [streamOf(stream, given)], living: alive(stream, group) } }
}

const LIVE = ['firehose_live', 'firehose_group'] as const

test('a stream that nobody reads is broken when entries wait there, a warning when none do, and nothing before the first consumer', () => {
  const unread = (given: Partial<Stream>) => found({ redis: { streams: [streamOf('firehose_live', given)] } })
  expect(unread({})).toEqual([])
  expect(unread({ groups: [groupOf('firehose_group')] })).toEqual(['warning consumer-stopped'])
  expect(unread({ entries: 1 })).toEqual(['broken consumer-stopped'])
})

test('a consumer is dead when it holds entries, no process has its name, and it was silent for longer than a restart takes', () => {
  const two = (given: Partial<Stream['groups'][number]['consumers'][number]>) => {
    const held = { consumer: 'two', pending: 3, idleSeconds: LIMITS.deadSeconds, ...given }
    return found(read(...LIVE, { groups: [groupOf('firehose_group', [held])] }))
  }
  expect(two({})).toEqual(['warning consumer-dead'])
  expect(two({ idleSeconds: LIMITS.deadSeconds - 1 })).toEqual([])
  expect(two({ pending: 0 })).toEqual([])
  expect(two({ holder: 'a host pid 2' })).toEqual([])
})

test.each([
  ['firehose_live', 'firehose_group', ['broken lag']],
  ['label_live', 'label_group', ['broken lag']],
  ['firehose_backfill', 'firehose_group', []],
])('of %s the index may lag so far and no further', (stream, group, beyond) => {
  expect(found(read(stream, group, { entries: 1, lagSeconds: LIMITS.lagSeconds - 1 }))).toEqual([])
  expect(found(read(stream, group, { entries: 1, lagSeconds: LIMITS.lagSeconds }))).toEqual(beyond)
})

test('a producer of live events waits at the mark; exports stand at theirs for as long as a backfill takes, and not far beyond', () => {
  const { highWater } = readSettings({})
  const held = (stream: string, group: string, share: number) =>
    found(read(stream, group, { entries: Math.ceil(highWater.get(stream)! * share) }))
  expect(held(...LIVE, 0.99)).toEqual([])
  expect(held(...LIVE, 1)).toEqual(['broken backpressure'])
  expect(held('firehose_backfill', 'firehose_group', 1.19)).toEqual([])
  expect(held('firehose_backfill', 'firehose_group', 1.2)).toEqual(['broken backpressure'])
})

test('dead letters are a warning until there is no room for another', () => {
  const letters = (total: number) => found(read(...LIVE, { deadLetters: { total, reasons: { x: total }, cap: 10 } }))
  expect(letters(0)).toEqual([])
  expect(letters(9)).toEqual(['warning dead-letters'])
  expect(letters(10)).toEqual(['broken dead-letters'])
})

test('a group is ours at its own stream only', () => {
  const groups = (...names: string[]) => found(read(...LIVE, { groups: names.map((name) => groupOf(name)) }))
  expect(groups('firehose_group')).toEqual([])
  expect(groups('firehose_group', 'label_group')).toEqual(['warning group-unknown'])
})

test('a Redis that failed to rewrite its file is a warning; one that has thrown away a single key is broken', () => {
  const server = (given: Partial<typeof SERVER>) => found({ redis: { server: { ...SERVER, ...given } } })
  const { persistence, memory } = SERVER
  expect(server({ persistence: { ...persistence, lastRewriteOk: false } })).toEqual(['warning redis-disk'])
  expect(server({ memory: { ...memory, evictedKeys: 1 } })).toEqual(['broken redis-evicted'])
})

test('a Redis that does not tell its clients gives nobody the blame for not being there', () => {
  const cursors = [{ stream: 'firehose_live', host: 'relay.example', cursor: '5', ageSeconds: 1, isDone: false }]
  const connected = (clients: RedisState['connection']['clients']) =>
    found({ redis: { cursors, connection: { ...REDIS.connection, clients } } })
  expect(connected([])).toEqual(['broken ingester-stopped'])
  expect(connected(undefined)).toEqual([])
})

test('later tries that are overdue are nobody’s when there are many, and no backfiller lives', () => {
  const overdue = (count: number, living: RedisState['living']) =>
    found({ redis: { backfill: { ...REDIS.backfill, overdue: count }, living } })
  expect(overdue(9, [])).toEqual([])
  expect(overdue(10, [])).toEqual(['warning backfill-stalled'])
  expect(overdue(10, alive('repo_backfill', 'repo_backfill_group'))).toEqual([])
})

test.each<Record<string, string>>([
  { INGESTER_FIREHOSE_STREAM: 'x' },
  { BACKFILLER_FIREHOSE_STREAM: 'x' },
  { INGESTER_REPO_STREAM: 'x' },
  { INDEXER_REPO_STREAM: 'x' },
  { INGESTER_LABEL_STREAM: 'x' },
])('of %j nobody reads what is written', (env) => {
  expect(found({ state: { settings: readSettings(env) } })).toEqual(['broken config-streams'])
})

test('two builds are one too many', () => {
  const daemon = (role: string, build: string) => ({ url: `http://${role}`, role, build, ready: true })
  const builds = (...of: string[]) => found({ state: { daemons: of.map((build, i) => daemon(`role${i}`, build)) } })
  expect(builds('a', 'a')).toEqual([])
  expect(builds('a', 'b')).toEqual(['warning version-mismatch'])
})

test.each<[what: string, within: Partial<PostgresState>, beyond: Partial<PostgresState>, finding: string]>([
  [
    'connections',
    { connections: { used: 89, max: 100, ours: [] } },
    { connections: { used: 90, max: 100, ours: [] } },
    'warning postgres-connections',
  ],
  [
    'small pages',
    { sharedMemory: { bytes: 9e9, hugePages: 0, inHugePages: false, asksForHugePages: true } },
    { sharedMemory: { bytes: 9e9, hugePages: 1, inHugePages: false, asksForHugePages: true } },
    'warning postgres-small-pages',
  ],
  ['sequences', { sequences: [sequence(0.8)] }, { sequences: [sequence(0.81)] }, 'broken sequence-near-end'],
  [
    'dead rows of a small table',
    { tables: [table({ vacuumAt: 1_000, deadRows: 50_000 })] },
    { tables: [table({ vacuumAt: 1_000, deadRows: 50_001 })] },
    'warning vacuum-behind',
  ],
  [
    'dead rows of a large table',
    { tables: [table({ vacuumAt: 100_000, deadRows: 300_000 })] },
    { tables: [table({ vacuumAt: 100_000, deadRows: 300_001 })] },
    'warning vacuum-behind',
  ],
  ['autovacuum', { tables: [table({})] }, { tables: [table({ autovacuum: false })] }, 'warning vacuum-behind'],
  [
    'the age of a transaction',
    { longTransactions: [{ pid: 1, application: 'x', seconds: 300, state: 'idle', query: 'begin' }] },
    { longTransactions: [{ pid: 1, application: 'x', seconds: 301, state: 'idle', query: 'begin' }] },
    'warning long-transaction',
  ],
])('%s: within the limit is no finding, beyond it is one', (_, within, beyond, finding) => {
  expect(found({ postgres: { ...POSTGRES, ...within } })).toEqual([])
  expect(found({ postgres: { ...POSTGRES, ...beyond } })).toEqual([finding])
})

test('a pool is starved when somebody waits for one of its connections, and not when it has some', () => {
  const pool = (metrics: string) =>
    found({ state: { daemons: [{ url: 'x', ready: true, metrics: readMetrics(metrics) }] } })
  expect(pool('sluice_database_connections{state="idle"} 3\nsluice_database_connections{state="waiting"} 0')).toEqual(
    [],
  )
  expect(pool('sluice_database_connections{state="waiting"} 1')).toEqual(['warning pool-starved'])
})

function sequence(used: number): PostgresState['sequences'][number] {
  return { name: 'notification_id_seq', lastValue: 1, maxValue: '100', used }
}

function table(given: Partial<PostgresState['tables'][number]>): PostgresState['tables'][number] {
  const small = { rows: 1, bytes: 1, deadRows: 0, vacuumAt: 50, autovacuum: true, lastVacuum: null }
  return { name: 'like', ...small, ...given }
}

/**
 * The rules, over states that are made up, and the silence of a healthy one. The tests `doctor*.e2e` bring nearly all
 * of them about for real.
 */
import { expect, test } from 'vitest'
import { readSettings } from '../config.ts'
import { readMetrics } from '../daemon-state.ts'
import { readClients } from '../redis-state.ts'
import { POSTGRES, REDIS, SERVER, stateOf, type PostgresState, type RedisState } from '../testing/healthy.ts'
import { diagnose } from './diagnose.ts'
import type { FindingId } from './finding.ts'
import { summaryOf } from './summary.ts'

function ids(given: Parameters<typeof stateOf>[0]): FindingId[] {
  return diagnose(stateOf(given)).map(({ id }) => id)
}

test('a healthy system has no findings', () => {
  expect(ids({})).toEqual([])
})

test.each<[FindingId, Parameters<typeof ids>[0]]>([
  ['clock-skew', { redis: { connection: { ...REDIS.connection, clockAheadMs: -6_000 } } }],
  ['clock-skew', { postgres: { clockAheadMs: 7_000 } }],
  ['redis-slow', { redis: { connection: { ...REDIS.connection, latencyMs: 400 } } }],
  ['redis-disk', { redis: { server: { ...SERVER, persistence: { ...SERVER.persistence, lastWriteOk: false } } } }],
  ['redis-disk', { redis: { server: { ...SERVER, persistence: { ...SERVER.persistence, lastRewriteOk: false } } } }],
  ['redis-evicted', { redis: { server: { ...SERVER, memory: { ...SERVER.memory, evictedKeys: 3 } } } }],
  [
    'redis-replica',
    { redis: { server: { ...SERVER, role: 'slave', problems: [{ setting: 'role', detail: '', losesData: false }] } } },
  ],
  ['redis-old', { state: { redis: { away: 'Redis 6.2.14 is too old', refuses: true, tooOld: true } } }],
  ['backfill-stalled', { redis: { backfill: { ...REDIS.backfill, overdue: 50 } } }],
  ['postgres-slow', { postgres: { latencyMs: 400 } }],
  [
    'postgres-small-pages',
    { postgres: { sharedMemory: { bytes: 9e9, hugePages: 4_700, inHugePages: false, asksForHugePages: true } } },
  ],
  ['postgres-connections', { postgres: { connections: { used: 95, max: 97, ours: [] } } }],
  [
    'long-transaction',
    { postgres: { longTransactions: [{ pid: 1, application: 'x', seconds: 900, state: 'idle', query: 'begin' }] } },
  ],
  [
    'relay-disconnected',
    {
      state: {
        daemons: [{ url: 'http://x', ready: true, metrics: readMetrics('sluice_ingester_connected{host="r"} 0') }],
      },
    },
  ],
  [
    'pool-starved',
    {
      state: {
        daemons: [
          { url: 'http://x', ready: true, metrics: readMetrics('sluice_database_connections{state="waiting"} 3') },
        ],
      },
    },
  ],
  [
    'consumer-collision',
    {
      redis: {
        connection: {
          ...REDIS.connection,
          clients: readClients(
            'addr=a:1 name=sluice-backfiller-one-main age=3\naddr=b:2 name=sluice-backfiller-one-main age=9',
          ),
        },
      },
    },
  ],
])('%s is named', (id, given) => {
  expect(ids(given)).toEqual([id])
})

test.each(['INGESTER', 'BACKFILLER'])('%s_COLLECTIONS that leave out what is indexed are named with it', (role) => {
  const found = (env: Record<string, string>) => diagnose(stateOf({ state: { settings: readSettings(env) } }))
  const name = `${role}_COLLECTIONS`
  expect(found({ [name]: 'app.bsky.feed.*' })).toMatchObject([
    { id: 'config-collections', evidence: expect.stringContaining(`${name}=app.bsky.feed.*`) as string },
  ])
  const all = 'app.bsky.*,chat.bsky.*,com.germnetwork.*'
  expect(found({ [name]: all })).toEqual([])
  expect(found({ [name]: all, INDEXER_COLLECTIONS: 'com.example.*' })).toMatchObject([{ id: 'config-collections' }])
  expect(found({ INDEXER_COLLECTIONS: 'com.example.*' })).toEqual([])
})

test('accounts that wait for a question are named when they wait for long, and not those whose hosts do not answer', () => {
  const overdue = (checks: number[], deletions: number[]): PostgresState['overdue'] => ({
    checks: { new: checks[0]!, failing: checks[1]! },
    deletions: { returned: deletions[0]!, new: deletions[1]!, failing: deletions[2]! },
    later: { first: 0, again: 0 },
  })
  const found = (state: PostgresState['overdue']) =>
    diagnose(stateOf({ postgres: { overdue: state } })).map(({ id, what }) => `${id}: ${what}`)
  expect(found(overdue([3_500, 1e6], [3_500, 3_500, 1e6]))).toEqual([])
  expect(found(undefined)).toEqual([])
  expect(found(overdue([7_200, 0], [0, 0, 0]))).toEqual([
    'accounts-behind: accounts of which different things were said have not been asked about for 2.0 h',
  ])
  expect(found(overdue([0, 0], [7_200, 0, 0]))).toEqual([expect.stringContaining('accounts that are back')])
  expect(found(overdue([0, 0], [0, 7_200, 0]))).toEqual([expect.stringContaining('deletions that were reported')])
})

test('what was put off is named when it waits for long, and what is put off again when it waits for an hour', () => {
  const found = (first: number, again: number) => {
    const overdue = { ...POSTGRES.overdue!, later: { first, again } }
    return diagnose(stateOf({ postgres: { overdue } })).map(({ id, what }) => `${id}: ${what}`)
  }
  expect(found(800, 3_500)).toEqual([])
  const behind = ['settling-behind: what hangs on records with many replies has not been settled for 2.0 h']
  expect(found(7_200, 0)).toEqual(behind)
  expect(found(7_200, 86_400)).toEqual(behind)
  expect(found(0, 7_200)).toEqual(behind)
})

test('a stuck entry is one that was handed out before; what a backfiller holds is not stuck', () => {
  const stream = (name: string, group: string, deliveries: number): Partial<RedisState> => ({
    streams: [
      {
        stream: name,
        exists: true,
        entries: 1,
        bytes: 1,
        lagSeconds: 100,
        deadLetters: { total: 0, reasons: {}, cap: 10 },
        groups: [
          {
            group,
            pending: 1,
            lastDeliveredId: '1-1',
            lagSeconds: 400,
            oldestPending: { id: '1-1', ageSeconds: 400, consumer: 'one', idleSeconds: 1, deliveries },
            consumers: [],
          },
        ],
      },
    ],
    living: [{ stream: name, group, consumer: 'one', process: 'a host pid 1' }],
  })
  expect(ids({ redis: stream('firehose_backfill', 'firehose_group', 5) })).toEqual(['pending-stuck'])
  expect(ids({ redis: stream('firehose_backfill', 'firehose_group', 1) })).toEqual([])
  expect(ids({ redis: stream('repo_backfill', 'repo_backfill_group', 5) })).toEqual([])
})

const RELAY = { stream: 'firehose_live', host: 'relay.example' }
const LABELER = { stream: 'label_live', host: 'mod.example' }

/** Cursors that moved long ago, and who is connected to Redis. */
function quiet(clients: readonly string[], cursors: readonly { stream: string; host: string }[]) {
  return {
    ...REDIS,
    cursors: cursors.map(({ stream, host }) => ({ stream, host, cursor: '5', ageSeconds: 90_000, isDone: false })),
    connection: {
      ...REDIS.connection,
      clients: readClients(clients.map((name) => `addr=a:1 name=${name} age=9`).join('\n')),
    },
  }
}

test.each([
  [[], ['ingester-stopped']],
  [['sluice-ingester-labeler', 'sluice-ingester-backfill'], ['ingester-stopped']],
  [['sluice-ingester-firehose'], []],
  [['sluice-ingester-all'], []],
] as const)('of %j, some read the relays', (clients, found) => {
  expect(ids({ redis: quiet(clients, [RELAY]) })).toEqual(found)
})

test.each([
  ['sluice-ingester-all-1/2', []],
  ['sluice-ingester-all-0/2', ['ingester-stopped']],
  ['sluice-ingester-all', ['ingester-stopped']],
])('of shard 1/2 %s reads the relays, or not', (client, found) => {
  const settings = readSettings({ INGESTER_SHARD: '1/2' })
  expect(ids({ state: { settings }, redis: quiet([client], [RELAY]) })).toEqual(found)
})

test('a source that is quiet is broken when nobody reads it, worth a word when an ingester runs, and nothing when that says that it is connected', () => {
  const settings = readSettings({ RELAY_HOSTS: 'https://relay.example', LABELER_HOSTS: 'https://mod.example' })
  const said = (clients: readonly string[], metrics: string) => {
    const daemons = [{ url: 'http://x', ready: true, metrics: readMetrics(metrics) }]
    const system = { time: '', unknownVariables: [], settings, daemons, postgres: { state: POSTGRES } }
    return diagnose({ ...system, redis: { state: quiet(clients, [RELAY, LABELER]) } }).map(
      (f) => `${f.severity} ${f.id}`,
    )
  }
  const connected =
    'sluice_ingester_connected{host="relay.example"} 1\nsluice_ingester_labelers_connected{host="mod.example"} 1'
  const others = connected.replaceAll('.example', '.other')
  const all = ['sluice-ingester-all']
  expect(said([], others)).toEqual(['broken ingester-stopped', 'broken cursor-old', 'warning labeler-silent'])
  expect(said(all, others)).toEqual(['warning cursor-old', 'warning labeler-silent'])
  expect(said(all, connected)).toEqual([])
})

test('what is away hides nothing else', () => {
  expect(ids({ state: { redis: { away: 'Redis at x is away' } }, postgres: { isReadOnly: true } })).toEqual([
    'redis-away',
    'postgres-read-only',
  ])
})

/** What an ingester says of itself. */
const ingester = (...metrics: string[]) => [{ url: 'http://x', ready: true, metrics: readMetrics(metrics.join('\n')) }]

/** Below its mark, and somebody reads it. */
function reading(stream: string, group: string, entries: number): Pick<RedisState, 'streams' | 'living'> {
  const deadLetters = { total: 0, reasons: {}, cap: 10 }
  return {
    streams: [{ stream, exists: true, entries, bytes: 1, lagSeconds: 1, deadLetters, groups: [] }],
    living: [{ stream, group, consumer: 'one', process: 'a host pid 1' }],
  }
}

test.each([
  ['firehose_live', 'entries', ['backpressure']],
  ['firehose_live', 'memory', ['backpressure']],
  ['repo_backfill', 'entries', ['relay-disconnected']],
  ['label_live', 'entries', ['relay-disconnected']],
])('a relay that was left for want of room in %s (%s) is not looked for in the network', (stream, by, found) => {
  const daemons = ingester(
    'sluice_ingester_connected{host="r"} 0',
    `sluice_ingester_backpressure{stream="${stream}",by="${by}"} 1`,
  )
  // Between four fifths of the mark and the mark.
  expect(ids({ state: { daemons }, redis: reading('firehose_live', 'firehose_group', 85_000) })).toEqual(found)
})

test('backpressure lasts for as long as the ingester says so, and is the rule for what waits to be fetched', () => {
  const held = (stream: string, value: number) => ({
    daemons: ingester(`sluice_ingester_backpressure{stream="${stream}",by="entries"} ${value}`),
  })
  const labels = reading('label_live', 'label_group', 85_000)
  expect(ids({ state: held('label_live', 1), redis: labels })).toEqual(['backpressure'])
  expect(ids({ state: held('label_live', 0), redis: labels })).toEqual([])
  const repos = reading('repo_backfill', 'repo_backfill_group', 85_000)
  expect(ids({ state: held('repo_backfill', 1), redis: repos })).toEqual([])
})

function mendsOf(given: Parameters<typeof stateOf>[0]): string[] {
  return diagnose(stateOf(given)).map(({ severity, id, mend }) => `${severity} ${id}: ${mend}`)
}

test.each(['sluice-migrate', 'sluice-bulk'])('nobody is told to end %s, which is ours', (application) => {
  const session = { pid: 7, application, seconds: 900, state: 'active', query: 'create index' }
  const [open, ...rest] = mendsOf({ postgres: { longTransactions: [session] } })
  expect(open).toMatch(/^warning long-transaction: wait, and do not end it; .*pg_stat_progress_create_index/)
  const by = [{ pid: 7, application, isUpkeep: false }]
  const [waiting] = mendsOf({ postgres: { blocked: [{ ...session, pid: 8, application: 'sluice-indexer/one', by }] } })
  expect(waiting).toMatch(/^warning lock-waits: wait, and do not end it; .*pg_stat_progress_create_index/)
  expect(rest).toEqual([])
})

test('whoever else holds a lock may be ended, and no vacuum', () => {
  const blocked = (...by: PostgresState['blocked'][number]['by']) => [
    { pid: 8, application: 'sluice-indexer/one', seconds: 9, state: 'active', query: 'insert', by },
  ]
  const vacuum = { pid: 6, application: 'psql', isUpkeep: true }
  const forgotten = { pid: 7, application: 'psql', isUpkeep: false }
  const [kept] = mendsOf({ postgres: { blocked: blocked(vacuum) } })
  expect(kept).toMatch(/^warning lock-waits: wait/)
  const [ended] = mendsOf({ postgres: { blocked: blocked(vacuum, forgotten) } })
  expect(ended).toMatch(/^broken lock-waits: .*pg_terminate_backend\(7\)/)
})

const GB = 2 ** 30

test.each([
  // More than it holds, or a Redis that has grown without a limit would refuse everything at once.
  [{ usedBytes: 6e9, maxBytes: 0 }, 'maxmemory 11445mb', 'at most half of what Redis can have'],
  // Enough for the chain state of the network, where the machine has it.
  [{ usedBytes: 1e8, maxBytes: 0 }, 'maxmemory 5120mb', 'at most half of what Redis can have'],
  [{ usedBytes: 1e8, maxBytes: 0, systemBytes: 4 * GB }, 'maxmemory 2048mb', 'at most half of what Redis can have'],
  [{ usedBytes: 3 * GB, maxBytes: 4 * GB }, 'maxmemory 8192mb', 'only if Redis can have twice as much'],
  [
    { usedBytes: 4 * GB, maxBytes: 5 * GB, systemBytes: 16 * GB },
    'maxmemory 8192mb',
    'only if Redis can have twice as much',
  ],
])('of the memory %j Redis gets %s, %s', (given, command, condition) => {
  const memory = { ...SERVER.memory, ...given, ratio: given.maxBytes > 0 ? given.usedBytes / given.maxBytes : 0 }
  const problems = given.maxBytes > 0 ? [] : [{ setting: 'maxmemory', detail: '', losesData: false } as const]
  const [mend, ...rest] = mendsOf({ redis: { server: { ...SERVER, memory, problems } } })
  expect(mend).toContain(command)
  expect(mend).toContain(condition)
  expect(rest).toEqual([])
})

test('where the limit is half of the machine already, Redis is not given more', () => {
  const memory = { ...SERVER.memory, usedBytes: 7 * GB, maxBytes: 8 * GB, ratio: 7 / 8, systemBytes: 16 * GB }
  const [mend] = mendsOf({ redis: { server: { ...SERVER, memory } } })
  expect(mend).not.toContain('CONFIG SET')
  expect(mend).toContain('docs/operations.md')
})

test('only what can hold up the data is called a cause, and only of what can follow from it', () => {
  expect(summaryOf(['lag'])).toBe('1 finding')
  expect(summaryOf(['redis-no-limit', 'lag'])).toBe('2 findings')
  expect(summaryOf(['config-unknown', 'postgres-small-pages', 'incidents'])).toBe('3 findings')
  expect(summaryOf(['postgres-away', 'version-mismatch'])).toBe('2 findings')
  expect(summaryOf(['redis-no-limit', 'consumer-stopped', 'lag', 'backpressure', 'incidents'])).toBe(
    '5 findings; consumer-stopped is likely to be the cause of lag and backpressure',
  )
  expect(summaryOf(['postgres-away', 'consumer-stopped', 'lag', 'lag'])).toBe(
    '4 findings; postgres-away is likely to be the cause of lag',
  )
})

/** The state of a system in which nothing is wrong, with the changes that a test asks for. */
import { readSettings } from '../config.ts'
import type { SystemState } from '../system-state.ts'

export type RedisState = NonNullable<SystemState['redis']['state']>
export type PostgresState = NonNullable<NonNullable<SystemState['postgres']>['state']>

export const SERVER: RedisState['server'] = {
  version: 'redis 7.2.0',
  uptimeSeconds: 1_000,
  role: 'master',
  connectedClients: 5,
  blockedClients: 2,
  memory: {
    usedBytes: 1e8,
    maxBytes: 1e9,
    ratio: 0.1,
    peakBytes: 1e8,
    systemBytes: 0,
    policy: 'noeviction',
    evictedKeys: 0,
  },
  persistence: {
    appendonly: true,
    lastWriteOk: true,
    lastRewriteOk: true,
    rewriting: false,
    delayedFsyncs: 0,
    loading: false,
  },
  problems: [],
}

export const REDIS: RedisState = {
  time: '2026-01-01T00:00:00.000Z',
  server: SERVER,
  streams: [],
  cursors: [],
  backfill: { stream: 'repo_backfill', normal: 0, priority: 0, retries: 0, overdue: 0, hosts: 0 },
  incidents: { total: 0, newest: [] },
  connection: { latencyMs: 1, clockAheadMs: 0, clients: [] },
  living: [],
  sweep: { demand: null, ended: null },
}

export const POSTGRES: PostgresState = {
  version: '18.0',
  schema: 'bsky',
  database: 'bsky',
  bytes: 1e9,
  latencyMs: 1,
  clockAheadMs: 0,
  isReadOnly: false,
  sharedMemory: { bytes: 1e8, hugePages: 60, inHugePages: false, asksForHugePages: true },
  connections: { used: 20, max: 100, ours: [] },
  seesAllSessions: true,
  role: 'bsky',
  pendingMigrations: [],
  wrongTextOrder: undefined,
  bulkPhase: undefined,
  overdue: {
    checks: { new: 0, failing: 0 },
    deletions: { returned: 0, new: 0, failing: 0 },
    later: { first: 0, again: 0 },
  },
  tables: [],
  sequences: [],
  missingIndexes: [],
  longTransactions: [],
  blocked: [],
}

export function stateOf(given: {
  redis?: Partial<RedisState>
  postgres?: Partial<PostgresState>
  state?: Partial<SystemState>
}): SystemState {
  return {
    time: REDIS.time,
    settings: readSettings({}),
    redis: { state: { ...REDIS, ...given.redis } },
    postgres: { state: { ...POSTGRES, ...given.postgres } },
    daemons: [],
    unknownVariables: [],
    ...given.state,
  }
}

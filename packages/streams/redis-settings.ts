/**
 * The settings and health of a Redis server: whether data in it can vanish (eviction, persistence, version), and how
 * full it is.
 */
import { classified, type Redis } from './connection.ts'

export interface SettingProblem {
  setting: 'maxmemory-policy' | 'appendonly' | 'version' | 'maxmemory' | 'aof-write' | 'evicted-keys' | 'role'
  /** What is wrong, what this can lead to, and the command that corrects it. */
  detail: string
  /** Whether data can be lost. If not, Redis may only be slow or its memory unbounded. */
  losesData: boolean
}

/** The server, as described by INFO. */
export interface ServerState {
  /** `redis` or `valkey`, and its version. */
  version: string
  uptimeSeconds: number
  /** Normally `master`; a replica takes no writes. */
  role: string
  connectedClients: number
  /** Clients that wait for entries. */
  blockedClients: number
  memory: {
    usedBytes: number
    /** 0: no limit. */
    maxBytes: number
    /** Share of the limit that is in use; 0 without one. */
    ratio: number
    peakBytes: number
    /** Memory of its machine (a container may have less); 0 where INFO does not tell. */
    systemBytes: number
    policy: string
    evictedKeys: number
  }
  persistence: {
    appendonly: boolean
    lastWriteOk: boolean
    lastRewriteOk: boolean
    rewriting: boolean
    /** Writes that waited for a slow disk, since the start. */
    delayedFsyncs: number
    loading: boolean
  }
  problems: SettingProblem[]
}

/** @throws TransientError */
export async function serverState(redis: Redis): Promise<ServerState> {
  const info = await readInfo(redis)
  const field = fieldsOf(info)
  const number = (name: string): number => Number(field(name) || 0)
  const usedBytes = number('used_memory')
  const maxBytes = number('maxmemory')
  const valkey = field('valkey_version')
  return {
    version: valkey ? `valkey ${valkey}` : `redis ${field('redis_version')}`,
    uptimeSeconds: number('uptime_in_seconds'),
    role: field('role'),
    connectedClients: number('connected_clients'),
    blockedClients: number('blocked_clients'),
    memory: {
      usedBytes,
      maxBytes,
      ratio: maxBytes > 0 ? usedBytes / maxBytes : 0,
      peakBytes: number('used_memory_peak'),
      systemBytes: number('total_system_memory'),
      policy: field('maxmemory_policy'),
      evictedKeys: number('evicted_keys'),
    },
    persistence: {
      appendonly: field('aof_enabled') === '1',
      lastWriteOk: field('aof_last_write_status') !== 'err',
      lastRewriteOk: field('aof_last_bgrewrite_status') !== 'err',
      rewriting: field('aof_rewrite_in_progress') === '1',
      delayedFsyncs: number('aof_delayed_fsync'),
      loading: field('loading') === '1',
    },
    problems: settingProblems(info),
  }
}

/**
 * The problems of the server; empty when there are none. They are found by INFO, because CONFIG may be forbidden on
 * managed servers and INFO tells enough.
 * @throws TransientError
 */
export async function checkRedisSettings(redis: Redis): Promise<SettingProblem[]> {
  return settingProblems(await readInfo(redis))
}

async function readInfo(redis: Redis): Promise<string> {
  return await classified(redis.info())
}

function fieldsOf(info: string): (name: string) => string {
  const fields = new Map(info.split(/\r?\n/).map((line) => line.split(/:(.*)/, 2) as [string, string]))
  return (name) => fields.get(name) ?? ''
}

/** The problems that show in the text of INFO. */
export function settingProblems(info: string): SettingProblem[] {
  const field = fieldsOf(info)
  const problems: SettingProblem[] = []
  const policy = field('maxmemory_policy')
  if (policy !== 'noeviction') {
    problems.push({
      setting: 'maxmemory-policy',
      detail: `maxmemory-policy is ${policy || 'unknown'}: at the memory limit Redis would throw away streams and cursors. Mend: CONFIG SET maxmemory-policy noeviction`,
      losesData: true,
    })
  }
  if (field('aof_enabled') !== '1') {
    problems.push({
      setting: 'appendonly',
      detail: 'appendonly is off: a restart of Redis loses what was in the streams. Mend: CONFIG SET appendonly yes',
      losesData: true,
    })
  }
  const valkey = field('valkey_version')
  const version = field('redis_version')
  if (!valkey && compareVersions(version, '7.0.0') < 0) {
    problems.push({
      setting: 'version',
      detail: `Redis ${version} is too old: it does not know scripts with flags (#!lua), as ours are. Mend: Redis 7.0, Valkey 7.2 or newer`,
      losesData: false,
    })
  }
  if (field('maxmemory') === '0') {
    problems.push({
      setting: 'maxmemory',
      detail:
        'maxmemory is not set: only the entry marks hold the producers back, and the machine may run out of memory. Mend: CONFIG SET maxmemory <bytes>',
      losesData: false,
    })
  }
  problems.push(...troubles(field))
  return problems
}

/** Problems that have happened already, rather than those that may happen. */
function troubles(field: (name: string) => string): SettingProblem[] {
  const found: SettingProblem[] = []
  if (field('aof_last_write_status') === 'err') {
    found.push({
      setting: 'aof-write',
      detail:
        'Redis cannot write its append-only file: the disk is full or failing, and Redis refuses all writes. Mend: make room on its disk; it goes on by itself',
      losesData: false,
    })
  }
  const evicted = Number(field('evicted_keys') || 0)
  if (evicted > 0) {
    found.push({
      setting: 'evicted-keys',
      detail: `Redis has thrown ${evicted} keys away at its memory limit since it started: streams, cursors or chain states may be among them. Mend: CONFIG SET maxmemory-policy noeviction, compare the index with \`sluice sweep\`, then CONFIG RESETSTAT`,
      losesData: true,
    })
  }
  const role = field('role')
  if (role !== '' && role !== 'master') {
    found.push({
      setting: 'role',
      detail: `this Redis is a ${role} and takes no writes. Mend: point REDIS_URL at the primary`,
      losesData: false,
    })
  }
  return found
}

function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number))
  for (let i = 0; i < 3; i++) if ((x![i] ?? 0) !== (y![i] ?? 0)) return (x![i] ?? 0) - (y![i] ?? 0)
  return 0
}

/** Whether a Redis is set up so that nothing in it can vanish: eviction, persistence, version. */
import { classifyRedisError, type Redis } from './connection.ts'

export interface SettingProblem {
  setting: 'maxmemory-policy' | 'appendonly' | 'version' | 'maxmemory'
  /** What is wrong, what it can lead to, and the command that mends it. */
  detail: string
  /** Data can be lost, rather than slow or unbounded. */
  losesData: boolean
}

/** The problems found; empty when all is well. CONFIG may be forbidden on managed servers: INFO tells as much as we need. */
export async function checkRedisSettings(redis: Redis): Promise<SettingProblem[]> {
  let info: string
  try {
    info = await redis.info()
  } catch (error) {
    throw classifyRedisError(error)
  }
  return settingProblems(info)
}

/** The same from the text of INFO. */
export function settingProblems(info: string): SettingProblem[] {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\\r?$`, 'm').exec(info)?.[1] ?? ''
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
      detail: `Redis ${version} is too old: XAUTOCLAIM of 6.2 does not clear deleted entries. Mend: Redis 7.0, Valkey 7.2 or newer`,
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
  return problems
}

function compareVersions(a: string, b: string): number {
  const [x, y] = [a, b].map((v) => v.split('.').map(Number))
  for (let i = 0; i < 3; i++) if ((x![i] ?? 0) !== (y![i] ?? 0)) return (x![i] ?? 0) - (y![i] ?? 0)
  return 0
}

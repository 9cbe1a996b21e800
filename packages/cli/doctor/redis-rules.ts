/** What can be wrong with the Redis server itself. */
import type { ServerState, SettingProblem } from '@sluice/streams/redis-settings.ts'
import type { Settings } from '../config.ts'
import { bytes, oneLine } from '../output.ts'
import { placeOf } from '../session.ts'
import type { Finding, Rule } from './finding.ts'

export const redisAway: Rule = ({ redis, settings }) =>
  redis.away === undefined || redis.tooOld
    ? []
    : [
        {
          id: 'redis-away',
          severity: 'broken',
          what: redis.refuses ? 'Redis refuses us' : 'Redis does not answer',
          evidence: oneLine(redis.away, 500),
          meaning: redis.refuses
            ? 'A daemon that is refused the same stops. What is in Redis stays there, and upstream keeps what is not read for some days.'
            : 'Nothing moves: the ingester does not read, the indexer gets nothing. All of them go on by themselves when it is back.',
          mend: `${redis.refuses ? 'do what the message says (a permission that is lacking: ACL SETUSER)' : 'start Redis'}, or correct REDIS_URL (now ${placeOf(settings.redisUrl)})`,
        },
      ]

/** A Redis that is too old refuses our scripts, also those by which it is looked at: nothing else is known of it. */
export const redisOld: Rule = ({ redis }) =>
  redis.away !== undefined && redis.tooOld
    ? [
        {
          id: 'redis-old',
          severity: 'broken',
          what: 'this Redis is too old',
          evidence: oneLine(redis.away, 500),
          meaning: 'None of our scripts runs there: they need flags (#!lua), which came with 7.0. The daemons stop.',
          mend: 'upgrade it to Redis 7.0, Valkey 7.2 or newer, or name another one in REDIS_URL; then start the daemons',
        },
      ]
    : []

/** Returns what is wrong with the server, or undefined. */
type Check = (server: ServerState, settings: Settings) => Finding | undefined

const CLI = 'redis-cli -u "$REDIS_URL"'

const has = ({ problems }: ServerState, setting: SettingProblem['setting']): boolean =>
  problems.some((problem) => problem.setting === setting)

const eviction: Check = (server) =>
  has(server, 'maxmemory-policy')
    ? {
        id: 'redis-eviction',
        severity: 'broken',
        what: 'Redis may throw away streams and cursors',
        evidence: `maxmemory-policy is ${server.memory.policy}`,
        meaning:
          'At its memory limit it evicts whole keys: a stream that nobody has read yet, a cursor, the state of the chains.',
        mend: `${CLI} CONFIG SET maxmemory-policy noeviction   (and in redis.conf)`,
      }
    : undefined

const persistence: Check = (server) =>
  has(server, 'appendonly')
    ? {
        id: 'redis-persistence',
        severity: 'broken',
        what: 'a restart of Redis loses what is in the streams',
        evidence: 'appendonly is off',
        meaning:
          'Events that are not in the index yet are in Redis only, and without the append-only file they are in memory only.',
        mend: `${CLI} CONFIG SET appendonly yes   (and in redis.conf)`,
      }
    : undefined

const noLimit: Check = (server) =>
  has(server, 'maxmemory')
    ? {
        id: 'redis-no-limit',
        severity: 'warning',
        what: 'Redis has no memory limit',
        evidence: `maxmemory is 0, ${bytes(server.memory.usedBytes)} in use`,
        meaning:
          'Producers wait at a share of maxmemory; without one only the numbers of entries hold them back, and the machine may run out of memory.',
        mend: `${setLimit(firstLimit(server.memory))}   (at most half of what Redis can have; and in redis.conf)`,
      }
    : undefined

const nearLimit: Check = ({ memory }, { memoryPercent: { ingester, backfiller } }) =>
  memory.ratio >= Math.min(backfiller, ingester) / 100
    ? {
        id: 'redis-near-limit',
        severity: memory.ratio >= ingester / 100 ? 'broken' : 'warning',
        what: 'Redis is near its memory limit',
        evidence: `${bytes(memory.usedBytes)} of ${bytes(memory.maxBytes)} in use (${Math.round(memory.ratio * 100)} %)`,
        meaning: `Backfilling waits from ${backfiller} % on, live events from ${ingester} %. Nothing is lost; the relay keeps what is not read, for some days.`,
        mend: moreMemory(memory),
      }
    : undefined

const evicted: Check = ({ memory: { evictedKeys } }) =>
  evictedKeys > 0
    ? {
        id: 'redis-evicted',
        severity: 'broken',
        what: 'Redis has thrown keys away',
        evidence: `${evictedKeys} keys evicted since it started`,
        meaning: 'Streams, cursors or chain states may be among them: the index may lack what was in them.',
        mend: `${CLI} CONFIG SET maxmemory-policy noeviction; sluice sweep; then ${CLI} CONFIG RESETSTAT`,
      }
    : undefined

const disk: Check = ({ persistence: { lastWriteOk, lastRewriteOk } }) => {
  if (!lastWriteOk) {
    return {
      id: 'redis-disk',
      severity: 'broken',
      what: 'Redis cannot write to its disk',
      evidence: 'the last write of the append-only file failed',
      meaning: 'It refuses writes until it can store them, so the pipeline stands still.',
      mend: 'make room on the disk of Redis; it goes on by itself',
    }
  }
  if (lastRewriteOk) return undefined
  return {
    id: 'redis-disk',
    severity: 'warning',
    what: 'Redis could not rewrite its append-only file',
    evidence: 'the last rewrite failed; its log says why',
    meaning:
      'It still takes writes. But the file keeps what was acked and deleted long ago: it grows until the disk is full, and then everything stands still.',
    mend: `make room on its disk, as much as Redis has in memory (if its log says "fork": vm.overcommit_memory = 1); then ${CLI} BGREWRITEAOF`,
  }
}

const replica: Check = (server) =>
  has(server, 'role')
    ? {
        id: 'redis-replica',
        severity: 'broken',
        what: 'this Redis takes no writes',
        evidence: `its role is ${server.role}`,
        meaning: 'After a failover the daemons still talk to the old server, or REDIS_URL names a replica.',
        mend: 'point REDIS_URL at the primary, and restart the daemons',
      }
    : undefined

const CHECKS: readonly Check[] = [eviction, persistence, noLimit, nearLimit, evicted, disk, replica]

export const redisSettings: Rule = ({ redis, settings }) => {
  const server = redis.state?.server
  return server === undefined ? [] : CHECKS.flatMap((check) => check(server, settings) ?? [])
}

/**
 * The memory that docs/operations.md (Sizing) asks for: with less, the backfiller stops before it has seen the whole
 * network.
 */
const NETWORK_BYTES = 5 * 2 ** 30

type Memory = Pick<ServerState['memory'], 'usedBytes' | 'maxBytes' | 'systemBytes'>

const setLimit = (limitBytes: number): string => `${CLI} CONFIG SET maxmemory ${Math.ceil(limitBytes / 2 ** 20)}mb`

/**
 * Half of the machine's memory. A rewrite of the append-only file forks, and pages that change meanwhile exist twice.
 * Beyond half of the memory the kernel may end Redis.
 */
const halfOf = ({ systemBytes }: Memory): number => (systemBytes > 0 ? systemBytes / 2 : Infinity)

/**
 * The limit to begin with. It is never close to the memory in use, even if it must then be more than half of the
 * machine's: a Redis that is at its limit from the start refuses every append, and producers would wait until it has
 * drained.
 */
function firstLimit(memory: Memory): number {
  const { usedBytes } = memory
  return Math.min(Math.max(NETWORK_BYTES, 2 * usedBytes), Math.max(halfOf(memory), 1.25 * usedBytes))
}

function moreMemory(memory: Memory): string {
  const limitBytes = Math.min(2 * memory.maxBytes, halfOf(memory))
  return limitBytes > memory.maxBytes
    ? `let the consumers drain it, or give it more: ${setLimit(limitBytes)}   (only if Redis can have twice as much; and in redis.conf)`
    : 'let the consumers drain it; its machine has no more to give, since Redis may need twice its limit: a larger one, or less to hold (docs/operations.md, Sizing)'
}

export const redisSpeed: Rule = ({ redis }, { roundTripMs }) => {
  const ms = redis.state?.connection.latencyMs ?? 0
  if (ms < roundTripMs) return []
  return [
    {
      id: 'redis-slow',
      severity: 'warning',
      what: 'Redis answers slowly',
      evidence: `${Math.round(ms)} ms for one command`,
      meaning: 'Each batch needs some commands one after the other: at this pace the ingester falls behind.',
      mend: 'redis-cli -u "$REDIS_URL" SLOWLOG GET 10; look for a busy neighbour, swapping, or a long way to the server',
    },
  ]
}

export const clocks: Rule = ({ redis, postgres }, { clockMs }) => {
  const clocksOf: [string, number | undefined][] = [
    ['Redis', redis.state?.connection.clockAheadMs],
    ['PostgreSQL', postgres?.state?.clockAheadMs],
  ]
  return clocksOf.flatMap(([server, ahead]): Finding[] =>
    ahead === undefined || Math.abs(ahead) < clockMs
      ? []
      : [
          {
            id: 'clock-skew',
            severity: 'warning',
            what: `the clock of ${server} differs from ours`,
            evidence: `${server} is ${(Math.abs(ahead) / 1_000).toFixed(1)} s ${ahead > 0 ? 'ahead' : 'behind'}`,
            meaning:
              'Ages and lags are wrong by as much; with more than five minutes commits are refused as made in the future.',
            mend: 'run an NTP client (chrony, systemd-timesyncd) on every machine',
          },
        ],
  )
}

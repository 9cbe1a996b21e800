/** The whole system in one look: Redis, PostgreSQL, the daemons, the configuration. What is away is named, and hides nothing else. */
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { redact } from '@sluice/runtime/redact.ts'
import { unknownNames } from '@sluice/runtime/config-names.ts'
import { priorityStream, sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { WrongTypeError, type Redis } from '@sluice/streams/connection.ts'
import { inspect, type Inspection } from '@sluice/streams/inspect.ts'
import { KNOWN_NAMES, readingsOf, type Settings } from './config.ts'
import { livingConsumers, type Lease } from './groups.ts'
import { inspectDaemons, type DaemonState } from './daemon-state.ts'
import { inspectPostgres, type PostgresState } from './postgres-state.ts'
import { inspectConnection, type RedisConnection } from './redis-state.ts'
import type { Session } from './session.ts'

/** `away` is why there is no state; `refuses`: it answers, and lets us do nothing until somebody mends that. */
export type Look<T> = { state: T; away?: undefined } | { state?: undefined; away: string; refuses?: boolean }

export interface SystemState {
  /** When it was looked at (ISO 8601). */
  time: string
  settings: Settings
  redis: Look<Inspection & { connection: RedisConnection; sweep: SweepState; living: Lease[] }>
  /** Undefined: DB_POSTGRES_URL is not set. */
  postgres: Look<PostgresState> | undefined
  daemons: DaemonState[]
  unknownVariables: string[]
}

export interface SweepState {
  /** Why one is wanted or under way. */
  demand: string | null
  /** When the last one ended (ISO 8601). */
  ended: string | null
}

/** Every stream that somebody of ours writes or reads. */
export function streamsOf(settings: Settings): string[] {
  const { live, repo, label, backfill } = settings.streams
  const read = readingsOf(settings).map(({ stream }) => stream)
  return [...new Set([live, backfill, repo, priorityStream(repo), label, ...read])]
}

/** Throws for faults of ours only: a server that fails, or refuses us, is told as away, and everything else is still looked at. */
export async function inspectSystem(session: Session): Promise<SystemState> {
  const { settings, env } = session
  const [redis, postgres, daemons] = await Promise.all([
    look(() => inspectRedis(session)),
    settings.postgresUrl === undefined ? undefined : look(async () => inspectPostgres(await session.db())),
    inspectDaemons(settings.daemons),
  ])
  const unknownVariables = unknownNames(env, new Set(KNOWN_NAMES))
  return { time: new Date().toISOString(), settings, redis, postgres, daemons, unknownVariables }
}

async function inspectRedis(session: Session) {
  const { settings } = session
  const { repo } = settings.streams
  const redis = await session.redis()
  const [inspection, connection, living, [demand, ended]] = await Promise.all([
    inspectQueues(redis, settings),
    inspectConnection(redis),
    livingConsumers(redis, readingsOf(settings)),
    redis.mGet([sweepDemandKey(repo), sweptKey(repo)]),
  ])
  return { ...inspection, connection, living, sweep: { demand: demand ?? null, ended: ended ?? null } }
}

/** A key of another type among those of the backfill queue must not hide everything else: it is looked at as a stream, which tells. */
async function inspectQueues(redis: Redis, settings: Settings): Promise<Inspection> {
  const streams = streamsOf(settings)
  const { backfilled } = settings
  try {
    return await inspect(redis, { streams, backfillStream: backfilled })
  } catch (error) {
    if (!(error instanceof WrongTypeError)) throw error
    const found = await inspect(redis, { streams, backfillStream: `${backfilled}:none` })
    return { ...found, backfill: { ...found.backfill, stream: backfilled } }
  }
}

async function look<T>(inspectIt: () => Promise<T>): Promise<Look<T>> {
  try {
    return { state: await inspectIt() }
  } catch (error) {
    if (!(error instanceof TransientError || error instanceof FatalError)) throw error
    return { away: redact(error.message), ...(error instanceof FatalError && { refuses: true }) }
  }
}

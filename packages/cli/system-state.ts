/**
 * The state of the whole system: Redis, PostgreSQL, the daemons, the configuration. A server that is away is reported
 * as such, and does not hide the rest.
 */
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { redact } from '@sluice/runtime/redact.ts'
import { unknownNames } from '@sluice/runtime/config-names.ts'
import { VARIABLES } from '@sluice/runtime/variables.ts'
import { priorityStream, sweepDemandKey, sweptKey } from '@sluice/streams/backfill-queue.ts'
import { classified, WrongTypeError, type Redis } from '@sluice/streams/connection.ts'
import { inspect, type Inspection } from '@sluice/streams/inspect.ts'
import { checkRedisSettings } from '@sluice/streams/redis-settings.ts'
import type { StreamState } from '@sluice/streams/stream-state.ts'
import { readingsOf, type Settings } from './config.ts'
import { inspectDaemons, type DaemonState } from './daemon-state.ts'
import { inspectPostgres, type PostgresState } from './postgres-state.ts'
import { inspectConnection, type RedisConnection } from './redis-state.ts'
import type { Session } from './session.ts'

/**
 * The state of a server, or why there is none (`away`). `refuses`: the server answers, but refuses us everything until
 * an operator changes something. `tooOld`: and that is its version.
 */
export type Look<T> =
  { state: T; away?: undefined } | { state?: undefined; away: string; refuses?: boolean; tooOld?: boolean }

export interface SystemState {
  /** When the system was looked at (ISO 8601). */
  time: string
  settings: Settings
  redis: Look<Inspection & { connection: RedisConnection; sweep: SweepState; living: LivingConsumer[] }>
  /** Undefined: DB_POSTGRES_URL is not set. */
  postgres: Look<PostgresState> | undefined
  daemons: DaemonState[]
  unknownVariables: string[]
}

/** A living process of Sluice under the name of a consumer. */
export interface LivingConsumer {
  stream: string
  group: string
  consumer: string
  /** Host and pid. */
  process: string
}

export interface SweepState {
  /** Why a sweep is wanted or under way. */
  demand: string | null
  /** When the last sweep ended (ISO 8601). */
  ended: string | null
}

/** Every stream that a daemon of Sluice writes or reads. */
export function streamsOf(settings: Settings): string[] {
  const { live, repo, label, backfill } = settings.streams
  const read = readingsOf(settings).map(({ stream }) => stream)
  return [...new Set([live, backfill, repo, priorityStream(repo), label, ...read])]
}

/**
 * Reads the state of the system. A server that fails or refuses us is reported as away, and everything else is read all
 * the same. Throws only for a bug of ours.
 */
export async function inspectSystem(session: Session): Promise<SystemState> {
  const { settings, env } = session
  const [redis, postgres, daemons] = await Promise.all([
    look(() => inspectRedis(session)),
    settings.postgresUrl === undefined ? undefined : look(async () => inspectPostgres(await session.db())),
    inspectDaemons(settings.daemons),
  ])
  const unknownVariables = unknownNames(env, new Set(VARIABLES))
  return { time: new Date().toISOString(), settings, redis, postgres, daemons, unknownVariables }
}

async function inspectRedis(session: Session) {
  const { settings } = session
  const { repo } = settings.streams
  const redis = await session.redis()
  await assertRedisVersion(redis)
  const [inspection, connection, [demand, ended]] = await Promise.all([
    inspectQueues(redis, settings),
    inspectConnection(redis),
    classified(redis.mGet([sweepDemandKey(repo), sweptKey(repo)])),
  ])
  const sweep = { demand: demand ?? null, ended: ended ?? null }
  return { ...inspection, connection, living: livingConsumers(inspection.streams, settings), sweep }
}

/** This Redis cannot run our scripts. */
class RedisTooOldError extends FatalError {
  override name = 'RedisTooOldError'
}

/**
 * Asks for the version before anything else: the first script that an old server refuses would look like a bug of ours.
 * @throws RedisTooOldError
 */
async function assertRedisVersion(redis: Redis): Promise<void> {
  const tooOld = (await checkRedisSettings(redis)).find(({ setting }) => setting === 'version')
  if (tooOld) throw new RedisTooOldError(tooOld.detail)
}

/** The living consumers of our own groups. */
function livingConsumers(streams: readonly StreamState[], settings: Settings): LivingConsumer[] {
  return readingsOf(settings).flatMap(({ stream, group }) => {
    const groups = streams.find((state) => state.stream === stream)?.groups ?? []
    const consumers = groups.find((state) => state.group === group)?.consumers ?? []
    return consumers.flatMap(({ consumer, holder }) =>
      holder === undefined ? [] : [{ stream, group, consumer, process: holder }],
    )
  })
}

/**
 * Reads the queues. When a key of the backfill queue has another type, everything else must still be seen: the queue is
 * then shown as empty, and the state of its stream says what is wrong with the key.
 */
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
    return {
      away: redact(error.message),
      ...(error instanceof FatalError && { refuses: true }),
      ...(error instanceof RedisTooOldError && { tooOld: true }),
    }
  }
}

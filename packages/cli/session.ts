/**
 * One run of a command: its settings, its connections, its output. Settings are read, and connections made, when they
 * are first needed; connections are closed at the end.
 *
 * A server that is away is reported at once, in one line: a person is waiting, so nothing here waits until the server
 * is back. When a command asks again, as `status --watch` does, the connection is tried again.
 */
import { DatabasePool } from '@sluice/database/pool.ts'
import { assertServerVersion } from '@sluice/database/server-version.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import type { Env } from '@sluice/runtime/config.ts'
import { redact } from '@sluice/runtime/redact.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { readSettings, type Settings } from './config.ts'
import type { Output } from './output.ts'

const CONNECT_MS = 5_000
const STATEMENT_MS = 60_000

export class Session implements AsyncDisposable {
  readonly env: Env
  readonly out: Output
  /** Aborts when the user wants to stop. */
  readonly signal: AbortSignal
  readonly #resources = new AsyncDisposableStack()
  #settings: Settings | undefined
  #redis: Promise<Redis> | undefined
  #db: Promise<DatabasePool> | undefined

  constructor(env: Env, out: Output, signal: AbortSignal) {
    this.env = env
    this.out = out
    this.signal = signal
  }

  /**
   * The settings. They are read only when they are first needed: the command `config` must be able to show a variable
   * that cannot be read beside all others.
   * @throws FatalError for a variable that cannot be read
   */
  get settings(): Settings {
    this.#settings ??= readSettings(this.env)
    return this.#settings
  }

  /** @throws TransientError when Redis does not answer; FatalError when it refuses us for good */
  async redis(): Promise<Redis> {
    this.#redis ??= this.#connect().catch((error: unknown) => {
      this.#redis = undefined
      throw error
    })
    return this.#redis
  }

  /** The address of Redis, without secrets. */
  get redisPlace(): string {
    return placeOf(this.settings.redisUrl)
  }

  get postgresPlace(): string {
    return placeOf(this.settings.postgresUrl ?? '')
  }

  /**
   * @throws TransientError when PostgreSQL does not answer; FatalError when DB_POSTGRES_URL is not set, or the server
   * is too old
   */
  async db(): Promise<DatabasePool> {
    this.#db ??= this.#open().catch((error: unknown) => {
      this.#db = undefined
      throw error
    })
    return this.#db
  }

  async #open(): Promise<DatabasePool> {
    const db = new DatabasePool({
      url: this.postgresUrl,
      schema: this.settings.schema,
      size: 3,
      role: 'cli',
      acquireMs: CONNECT_MS,
      statementMs: STATEMENT_MS,
      // Without this the planner may choose, by its estimates, that `prune` reads an index from its beginning for each
      // page, and `recount` whole tables for each 500 keys.
      byKey: true,
    })
    try {
      await assertServerVersion(db)
      this.#resources.use(db)
      return db
    } catch (error) {
      await db.close()
      if (!(error instanceof TransientError)) throw error
      throw new TransientError(`PostgreSQL at ${this.postgresPlace} is away: ${causeOf(error)}`, { cause: error })
    }
  }

  /** @throws FatalError when DB_POSTGRES_URL is not set */
  get postgresUrl(): string {
    const { postgresUrl } = this.settings
    if (postgresUrl === undefined) {
      throw new FatalError('DB_POSTGRES_URL is not set: give the same environment as to the indexer')
    }
    return postgresUrl
  }

  async #connect(): Promise<Redis> {
    const given = new AbortController()
    let last: Error | undefined
    const timer = setTimeout(() => given.abort(), CONNECT_MS)
    try {
      const redis = await connectRedis({
        url: this.settings.redisUrl,
        name: 'sluice-cli',
        signal: given.signal,
        onState(error) {
          last = error
          if (error) given.abort()
        },
      })
      this.#resources.defer(() => redis.destroy())
      return redis
    } catch (error) {
      if (error instanceof FatalError || last instanceof FatalError) throw last ?? error
      const why = last ? causeOf(last) : `no answer within ${CONNECT_MS / 1000} s`
      throw new TransientError(`Redis at ${this.redisPlace} is away: ${why}`, last && { cause: last })
    } finally {
      clearTimeout(timer)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A connection may still be opening because something else has failed meanwhile. It is closed too.
    await Promise.allSettled([this.#redis, this.#db])
    await this.#resources.disposeAsync()
  }
}

/** `redis.internal:6379/0`: neither user nor password. */
export function placeOf(url: string): string {
  if (!URL.canParse(url)) return '(no address)'
  const { host, pathname } = new URL(url)
  return `${host}${pathname === '/' ? '' : pathname}`
}

/** The message of the innermost cause, which names the trouble itself. */
export function causeOf(error: Error): string {
  let innermost: Error = error
  while (innermost.cause instanceof Error) innermost = innermost.cause
  const { code } = innermost as NodeJS.ErrnoException
  return redact(innermost.message || code || innermost.name).replaceAll(/\s+/g, ' ')
}

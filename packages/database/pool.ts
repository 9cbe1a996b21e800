/**
 * Connections to PostgreSQL, with bounds on their number, on the wait for one and on the time that a statement may
 * take.
 *
 * Every session has the same settings (session-settings.ts) and belongs to one connection alone (pooler.ts).
 *
 * It pipelines: a statement is sent at once, without waiting for the answer of the one before it. Eight small
 * statements with BEGIN and COMMIT over loopback take 936 µs one after the other and 133 µs pipelined, with a quarter
 * of the CPU here and a third in the server. Over a network each saved round trip counts for more.
 *
 * A wait that ends without a connection is a `TransientError` that names the pool. An error of a connection never
 * becomes an uncaught exception of the process: `onIdleError` gets the error of an idle connection, and whoever waits
 * for a statement gets that of a lent one.
 */
import { callbackify } from 'node:util'
import { Pool, TypeOverrides, types } from 'pg'
import type { PoolClient, QueryConfig, QueryResult, QueryResultRow } from 'pg'
import { orAbort } from '@sluice/runtime/abort.ts'
import { FatalError, TransientError } from '@sluice/runtime/errors.ts'
import { withArraysEncoded } from './array.ts'
import { PoolStarvedError, classify, type RetriedReason } from './errors.ts'
import { assertOwnSession } from './pooler.ts'
import { isSchemaName } from './schema-name.ts'
import { sessionSettings } from './session-settings.ts'

export interface PoolOptions {
  /** `postgres://user:password@host:port/database`, as libpq understands it. */
  url: string
  /** The schema of the AppView's tables; extensions are looked up in `public` after it. */
  schema: string
  /** The most connections. */
  size: number
  /** Shown in `pg_stat_activity` as `sluice-<role>/<consumer>`. */
  role: string
  consumer?: string
  /** The longest wait for a free connection, and for a new one to be made. Default 10 s. */
  acquireMs?: number
  /** The longest a statement may take, lock waits included; 0 means no limit. Default 120 s. */
  statementMs?: number
  /**
   * True: every statement finds its rows by key, so plans that read or hash whole tables are turned off. Default false.
   */
  byKey?: boolean
  /** Called when a connection broke while nobody used it. The pool has replaced it already. */
  onIdleError?: (error: Error) => void
  /** Called for each new connection, before it is lent: it may lead to another server than those before it. */
  onSession?: () => void
  /** Called for each transaction that `transaction` tries again at once. */
  onRetry?: (reason: RetriedReason) => void
}

/** What a pool is doing, for gauges. */
export interface PoolGauges {
  /** Connections open or being opened. */
  total: number
  idle: number
  /** Callers waiting for a connection. */
  waiting: number
}

/** A statement: text alone, or with values; with a name it is prepared once per connection. */
export interface Statement {
  name?: string
  text: string
  values?: unknown[]
}

/** One connection to which statements are sent, in or out of a transaction. */
export interface Session {
  query<R extends QueryResultRow>(statement: string | Statement, values?: unknown[]): Promise<QueryResult<R>>
}

/**
 * How long we wait for an answer beyond the server's own limit. After that the server is gone, or the network loses its
 * answers.
 */
const ANSWER_GRACE_MS = 10_000
const KEEPALIVE_MS = 10_000
const IDLE_MS = 60_000
/** PostgreSQL cuts application_name at 63 bytes. */
const NAME_BYTES = 63

export class DatabasePool implements AsyncDisposable {
  /** As in `pg_stat_activity.application_name`. */
  readonly name: string
  readonly schema: string
  readonly size: number
  readonly onRetry: PoolOptions['onRetry']
  readonly #options: PoolOptions
  readonly #pool: Pool
  readonly #acquireMs: number
  /** Whether it is certain that connections have sessions of the server for themselves; undefined: not asked yet. */
  #ownSessions: Promise<boolean> | undefined

  constructor(options: PoolOptions) {
    const { acquireMs = 10_000, statementMs = 120_000, onIdleError, onSession } = options
    assertSchemaName(options.schema)
    this.name = `sluice-${options.role}${options.consumer === undefined ? '' : `/${options.consumer}`}`.slice(
      0,
      NAME_BYTES,
    )
    this.schema = options.schema
    this.size = options.size
    this.onRetry = options.onRetry
    this.#options = options
    this.#acquireMs = acquireMs
    const settings = sessionSettings({ ...options, statementMs })
    this.#pool = new Pool({
      connectionString: options.url,
      application_name: this.name,
      max: options.size,
      connectionTimeoutMillis: acquireMs,
      idleTimeoutMillis: IDLE_MS,
      pipeline: true,
      keepAlive: true,
      keepAliveInitialDelayMillis: KEEPALIVE_MS,
      types: valueTypes,
      ...(statementMs > 0 && { query_timeout: statementMs + ANSWER_GRACE_MS }),
      verify: callbackify(async (client: PoolClient) => this.#prepare(client, settings)),
    })
    this.#pool.on('error', (error: Error & { client?: unknown }) => {
      // pg-pool attaches the broken connection to its error. A log line of the error would contain the connection's
      // socket, settings and every statement that it knew: 8 kB and more.
      delete error.client
      onIdleError?.(error)
    })
    // The pool has no error listener on a lent connection. Without one, a broken socket would be an uncaught exception.
    this.#pool.on('connect', (client) => {
      client.on('error', () => {})
      onSession?.()
    })
  }

  /**
   * Lends a connection. The caller must call `release()`, with an error when the connection cannot be trusted any more.
   * @throws PoolStarvedError when none became free in time; whatever `classify` makes of a failed connection; the
   * signal's reason
   */
  async acquire(signal?: AbortSignal): Promise<PoolClient> {
    signal?.throwIfAborted()
    // `connect` may throw before it returns a promise: when a file that the URL names cannot be read. The async
    // function turns that into a rejection.
    const lent = (async () => await this.#pool.connect())()
    try {
      return await (signal ? orAbort(signal, lent) : lent)
    } catch (error) {
      if (!signal?.aborted) this.#failed(error)
      lent.then((client) => client.release(), () => {}) // prettier-ignore
      throw error
    }
  }

  /** One statement outside of a transaction. Errors are classified. */
  async query<R extends QueryResultRow>(statement: string | Statement, values?: unknown[]): Promise<QueryResult<R>> {
    return await this.session((session) => session.query<R>(statement, values))
  }

  /**
   * Runs `work` with one connection, for statements outside of a transaction that belong together. Each is sent at once
   * and commits by itself. Errors are classified.
   *
   * With `query` each statement would take a connection of its own, and these come back in any order. So the work would
   * go round the whole pool, and each server process would map and cache all of the index for itself.
   */
  async session<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const client = await this.acquire()
    let failure: Error | undefined
    const query: Session['query'] = async (statement, values) => {
      try {
        return await client.query(statement, values && withArraysEncoded(values))
      } catch (error) {
        failure ??= error as Error
        throw classify(error, `a statement of ${this.name}`)
      }
    }
    try {
      return await work({ query })
    } finally {
      client.release(failure)
    }
  }

  /** Makes another pool for the same database, with connections of its own. The caller closes it. */
  alike(changes: Partial<PoolOptions>): DatabasePool {
    return new DatabasePool({ ...this.#options, ...changes })
  }

  gauges(): PoolGauges {
    return { total: this.#pool.totalCount, idle: this.#pool.idleCount, waiting: this.#pool.waitingCount }
  }

  /** Closes idle connections now and lent ones when they come back; resolves when all are closed. */
  async close(): Promise<void> {
    if (!this.#pool.ending) await this.#pool.end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /**
   * Sets a new connection up. A pooler may have accepted it without a session of the server to lend: so this too must
   * end within the time that a caller waits.
   * @throws TransientError when no session came in time; FatalError behind a pooler that mixes sessions up
   */
  async #prepare(client: PoolClient, settings: string): Promise<void> {
    const ask = async <R extends QueryResultRow>(text: string): Promise<QueryResult<R>> =>
      await client.query<R>({ text, query_timeout: this.#acquireMs } as QueryConfig)
    try {
      const [, { rows }] = await Promise.all([ask(settings), ask<{ pid: number }>('select pg_backend_pid() as pid')])
      this.#ownSessions ??= assertOwnSession(client, rows[0]!.pid, this.#options.url)
      if (!(await this.#ownSessions)) this.#ownSessions = undefined
    } catch (error) {
      if (!(error instanceof Error) || error.message !== READ_TIMEOUT) throw error
      // Without the cause: its message says less, and the command line shows the innermost.
      throw new TransientError(
        `connected ${this.name}, but got no session of the server in ${this.#acquireMs} ms. ` +
          'Next: behind a pooler raise its number of server connections (PgBouncer: default_pool_size) to DB_POOL_SIZE of all indexers and four more, or lower DB_POOL_SIZE',
      )
    }
  }

  #failed(error: unknown): never {
    if (!(error instanceof Error) || error.message !== POOL_TIMEOUT) throw classify(error, `connecting ${this.name}`)
    const { waiting } = this.gauges()
    throw new PoolStarvedError(
      `no connection of ${this.name} became free in ${this.#acquireMs} ms: all ${this.size} are lent, ${waiting} more wait. ` +
        `Next: raise DB_POOL_SIZE, lower INDEXER_CONCURRENCY, or look for slow statements in pg_stat_activity`,
      { cause: error },
    )
  }
}

/** The message of pg-pool when a wait took too long. */
const POOL_TIMEOUT = 'timeout exceeded when trying to connect'
/** pg's, when an answer took too long. */
const READ_TIMEOUT = 'Query read timeout'

/** @throws FatalError unless the name can be quoted without escapes: letters, digits and underscores */
export function assertSchemaName(schema: string): void {
  if (isSchemaName(schema)) return
  throw new FatalError(
    `DB_POSTGRES_SCHEMA is ${JSON.stringify(schema)}: use letters, digits and underscores, as in "bsky"`,
  )
}

/**
 * How values become JavaScript, for our connections only (pg's own table is global, and other code in the process
 * changes it). A bigint becomes a number while that is exact. Timestamps stay as PostgreSQL prints them, because a Date
 * would depend on the machine's time zone.
 */
const valueTypes = new TypeOverrides()
valueTypes.setTypeParser(types.builtins.INT8, exactNumber)
valueTypes.setTypeParser(types.builtins.DATE, (text) => text)
valueTypes.setTypeParser(types.builtins.TIMESTAMP, (text) => text)
valueTypes.setTypeParser(types.builtins.TIMESTAMPTZ, (text) => text)

function exactNumber(text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value)) throw new RangeError(`${text} is too large for a JavaScript number`)
  return value
}

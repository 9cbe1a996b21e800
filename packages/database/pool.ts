/**
 * Connections to PostgreSQL, with bounds on their number, on the wait for one and on the time that a statement may
 * take.
 *
 * Every session has the same settings (search_path, UTC, timeouts, no JIT) and pipelines: a statement is sent at once,
 * without waiting for the answer of the one before it. Eight small statements with BEGIN and COMMIT over loopback take
 * 936 µs one after the other and 133 µs pipelined, with a quarter of the CPU here and a third in the server. Over a
 * network each saved round trip counts for more.
 *
 * A wait that ends without a connection is a `TransientError` that names the pool. An error of a connection never
 * becomes an uncaught exception of the process: `onIdleError` gets the error of an idle connection, and whoever waits
 * for a statement gets that of a lent one.
 */
import { Pool, TypeOverrides, types } from 'pg'
import type { PoolClient, QueryResult, QueryResultRow } from 'pg'
import { orAbort } from '@sluice/runtime/abort.ts'
import { FatalError } from '@sluice/runtime/errors.ts'
import { withArraysEncoded } from './array.ts'
import { PoolStarvedError, classify, type RetriedReason } from './errors.ts'
import { isSchemaName } from './schema-name.ts'

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
/** The longest a transaction may sit idle, holding its locks. */
const IDLE_IN_TRANSACTION_MS = 60_000
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

  constructor(options: PoolOptions) {
    const { acquireMs = 10_000, statementMs = 120_000, onIdleError } = options
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
      verify: (client, done) => {
        client.query(sessionSettings(options, statementMs), (error) => done(error))
      },
    })
    this.#pool.on('error', (error: Error & { client?: unknown }) => {
      // pg-pool attaches the broken connection to its error. A log line of the error would contain the connection's
      // socket, settings and every statement that it knew: 8 kB and more.
      delete error.client
      onIdleError?.(error)
    })
    // The pool has no error listener on a lent connection. Without one, a broken socket would be an uncaught exception.
    this.#pool.on('connect', (client) => client.on('error', () => {}))
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

/** @throws FatalError unless the name can be quoted without escapes: letters, digits and underscores */
export function assertSchemaName(schema: string): void {
  if (isSchemaName(schema)) return
  throw new FatalError(
    `DB_POSTGRES_SCHEMA is ${JSON.stringify(schema)}: use letters, digits and underscores, as in "bsky"`,
  )
}

/**
 * JIT is off because the planner overestimates the cost of a batch (unnest, a fresh temporary table) so much that it
 * would compile, which costs more than such a statement. The isolation level is set by `transaction`.
 */
function sessionSettings({ schema, byKey }: PoolOptions, statementMs: number): string {
  return [
    `set search_path to "${schema}", public`,
    `set timezone to 'UTC'`,
    `set statement_timeout to ${statementMs}`,
    `set idle_in_transaction_session_timeout to ${IDLE_IN_TRANSACTION_MS}`,
    `set jit to off`,
    ...(byKey ? BY_KEY : []),
  ].join('; ')
}

/**
 * Turns off plans that read or hash whole tables, and incremental sorts.
 *
 * A plan is made while a table is empty, kept, and made again when autovacuum has counted the rows. Each time the
 * planner may find that a batch of 8,000 keys justifies reading a table of a billion rows. Starting with an empty
 * index: without the first three kinds of plan 72 µs of PostgreSQL an event and 13,000 events/s; with them 97 µs and
 * 9,900.
 *
 * An incremental sort would let the planner use an index whose order is only the beginning of the order that the
 * statement asks for (`packages/collections/by-key.ts`).
 */
const BY_KEY = ['seqscan', 'hashjoin', 'mergejoin', 'incremental_sort'].map((plan) => `set enable_${plan} to off`)

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

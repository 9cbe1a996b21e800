/**
 * A transaction: one unit of work that takes effect as a whole or not at all.
 *
 * Begins, runs the work, commits. After a deadlock, a serialization failure or a stale plan the whole work is run again
 * at once, a few times. Every other failure ends the call with a classified error. After a rollback the connection goes
 * back to the pool, unless its state is in doubt.
 *
 * A connection that is lost during COMMIT leaves the outcome unknown. That is a `TransientError` like any lost
 * connection: batches may be applied twice, so the caller simply applies the batch again. Work that must not be
 * repeated must not use this.
 */
import { setTimeout as delay } from 'node:timers/promises'
import type { ClientBase, QueryResult, QueryResultRow } from 'pg'
import { TransientError } from '@sluice/runtime/errors.ts'
import { withArraysEncoded } from './array.ts'
import { copyRows } from './copy.ts'
import type { CopyRow } from './copy-data.ts'
import type { CopyTarget } from './copy.ts'
import { classify, verdictOf } from './errors.ts'
import type { RetriedReason } from './errors.ts'
import type { DatabasePool, Statement } from './pool.ts'

export interface TransactionOptions {
  /** What the work is, for messages: `applying a batch`. */
  doing: string
  /**
   * The most tries, for failures after which another try at once makes sense. The pool's `onRetry` is called for each.
   * Default 5.
   */
  attempts?: number
}

/**
 * Runs `work` in one transaction at READ COMMITTED and returns its result. `work` may run several times, so it must
 * have no effect but its statements. Statements that it does not await are awaited before COMMIT, and if one of them
 * failed, the transaction fails.
 * @throws TransientError, RefusedError or FatalError as `classify` decides; other errors of `work` unchanged
 */
export async function transaction<T>(
  pool: DatabasePool,
  options: TransactionOptions,
  work: (tx: Transaction) => Promise<T>,
): Promise<T> {
  const { doing, attempts = 5 } = options
  for (let attempt = 1; ; attempt++) {
    try {
      return await once(pool, work)
    } catch (error) {
      const verdict = verdictOf(error)
      if (verdict?.policy !== 'now' || attempt >= attempts) throw classify(error, doing)
      pool.onRetry?.(verdict.reason as RetriedReason)
      await delay(Math.random() * RETRY_MS * attempt)
    }
  }
}

/**
 * The longest wait before the first retry. It is random, so that the two sides of a deadlock do not meet again at the
 * same point.
 */
const RETRY_MS = 20

async function once<T>(pool: DatabasePool, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const client = await pool.acquire()
  const tx = new Transaction(client)
  let discard: boolean | undefined
  try {
    const result = await work(tx)
    await tx.answered()
    await commit(client)
    return result
  } catch (error) {
    await tx.answered().catch(() => {})
    const cause = tx.failure ?? error
    discard = verdictOf(cause)?.discard === true || !(await rolledBack(client))
    throw cause
  } finally {
    client.release(discard)
  }
}

async function commit(client: ClientBase): Promise<void> {
  try {
    const { command } = await client.query('commit')
    // PostgreSQL answers ROLLBACK when an earlier statement has failed. `Transaction` knows of each failure, so this
    // would be a bug of ours.
    if (command !== 'COMMIT') throw new Error(`the transaction ended with ${command} instead of COMMIT`)
  } catch (error) {
    const verdict = verdictOf(error)
    if (verdict?.policy !== 'later' || !verdict.discard) throw error
    throw new TransientError('connection lost during COMMIT: whether it took effect is not known', { cause: error })
  }
}

async function rolledBack(client: ClientBase): Promise<boolean> {
  try {
    await client.query('rollback')
    return true
  } catch {
    return false
  }
}

/**
 * A transaction in progress. Statements are sent in the order in which they are called, each at once. A caller that
 * does not need an answer for its next step saves a round trip by not awaiting it.
 */
export class Transaction {
  #calls = 0
  #failures = new Map<number, Error>()
  readonly #client: ClientBase
  /** Resolves when the next statement may be sent: after BEGIN, and after the last byte of a COPY. */
  #sendable: Promise<unknown>
  #pending = new Set<Promise<unknown>>()

  constructor(client: ClientBase) {
    this.#client = client
    // The first statement waits for the answer to BEGIN. If both were sent together and BEGIN alone failed (a late
    // cancel), the statement would commit on its own. The round trip of BEGIN passes while the caller builds the first
    // statement.
    this.#sendable = this.#watch(client.query('begin isolation level read committed'))
  }

  /** Sends a statement; with a name it is prepared once per connection. Rejects with pg's error, unclassified. */
  query<R extends QueryResultRow>(statement: string | Statement, values?: unknown[]): Promise<QueryResult<R>> {
    const encoded = values && withArraysEncoded(values)
    return this.#watch(this.#sendable.then(() => this.#client.query<R>(statement, encoded)))
  }

  /**
   * Copies rows into a table; resolves with the number of rows. Statements called after it are sent after its last row.
   */
  copy(target: CopyTarget, rows: Iterable<CopyRow>): Promise<number> {
    const sent = Promise.withResolvers<void>()
    const copied = this.#sendable.then(() => copyRows(this.#client, target, rows, sent.resolve))
    this.#sendable = Promise.race([sent.promise, copied])
    this.#sendable.catch(() => {})
    return this.#watch(copied)
  }

  /**
   * The failure of the first statement that failed, in the order of the calls, as far as answers have arrived. The
   * failures of later statements only say that the transaction is aborted. (Their promises may be rejected earlier: the
   * promise of a COPY settles in fewer turns of the event loop than that of a query.)
   */
  get failure(): Error | undefined {
    return this.#failures.get(Math.min(...this.#failures.keys()))
  }

  /** Waits for all statements; rejects with the first failure. */
  async answered(): Promise<void> {
    await Promise.allSettled(this.#pending)
    if (this.failure !== undefined) throw this.failure
  }

  /**
   * Notes the failure of a statement. A statement that nobody awaits must not be forgotten, and must not end the
   * process as an unhandled rejection.
   */
  #watch<T>(answer: Promise<T>): Promise<T> {
    const call = this.#calls++
    this.#pending.add(answer)
    answer.then(
      () => this.#pending.delete(answer),
      (error: Error) => {
        this.#failures.set(call, error)
        this.#pending.delete(answer)
      },
    )
    return answer
  }
}

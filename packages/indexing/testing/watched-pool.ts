/**
 * A pool that records which statements were sent, with their values, and how many rows and index entries each of them
 * read.
 */
import { DatabasePool, type Session, type Statement } from '@sluice/database/pool.ts'

type PoolClient = Awaited<ReturnType<DatabasePool['acquire']>>

export interface Asked {
  text: string
  /** The values when it was last sent. */
  values: unknown[]
  /** One reading for each time it was sent. */
  times: Reading[]
}

export interface Reading {
  /** Rows of tables that were read from end to end, plus entries of indexes. */
  read: number
  /** How many keys the statement asked for: the length of its longest array, or one. */
  for: number
  /** How many rows it returned or changed. */
  rows: number
}

export class WatchedPool extends DatabasePool {
  /** By the name of the statement. */
  readonly asked = new Map<string, Asked>()
  readonly #watched = new WeakSet<PoolClient>()

  override async acquire(signal?: AbortSignal): Promise<PoolClient> {
    const client = await super.acquire(signal)
    if (!this.#watched.has(client)) watch(client, this.asked)
    this.#watched.add(client)
    return client
  }

  /** Runs the session in a transaction: within one, PostgreSQL reports at once what was read. */
  override async session<T>(work: (session: Session) => Promise<T>): Promise<T> {
    return super.session(async (session) => {
      await session.query('begin')
      try {
        return await work(session)
      } finally {
        await session.query('commit')
      }
    })
  }
}

type Query = (
  statement: unknown,
  values?: unknown[],
) => Promise<{ rowCount: number | null; rows: [{ n: number }, ...{ n: number }[]] }>

function watch(client: PoolClient, asked: Map<string, Asked>): void {
  const query = client.query.bind(client) as unknown as Query
  let before = 0
  /** What was read since the last call. Undefined if the transaction has failed or ended. */
  const readSince = async (): Promise<number | undefined> => {
    // If the statement before failed, its own error says so.
    const answer = await query(READ_SO_FAR).catch(() => undefined)
    if (!answer) return undefined
    const [{ n }] = answer.rows
    const read = n - before
    before = n
    return read
  }
  const note = async (name: string, text: string, values: unknown[], answer: ReturnType<Query>): Promise<void> => {
    const [read, { rowCount }] = await Promise.all([readSince(), answer.catch(() => ({ rowCount: null }))])
    if (read === undefined) return
    const times = asked.get(name)?.times ?? []
    times.push({ read, for: sizeOf(values), rows: rowCount ?? 0 })
    asked.set(name, { text, values, times })
  }
  const watched: Query = (statement, values) => {
    const answer = query(statement, values)
    if (typeof statement === 'string') {
      // Reads of earlier transactions that PostgreSQL has not yet reported are counted too: so this sets the starting
      // point.
      if (statement.startsWith('begin')) void readSince()
    } else {
      const { name, text, values: own } = statement as Statement
      if (name !== undefined) void note(name, text, values ?? own ?? [], answer)
    }
    return answer
  }
  client.query = watched as unknown as PoolClient['query']
}

/**
 * The largest number of keys in one value. An encoded array has its length in its header (packages/database/array.ts);
 * for an array as text it is the number of commas and one.
 */
function sizeOf(values: readonly unknown[]): number {
  const sizes = values.map((value) => {
    if (Buffer.isBuffer(value)) return value.readInt32BE(12)
    if (Array.isArray(value)) return value.length
    return typeof value === 'string' && value.startsWith('{') ? value.split(',').length : 1
  })
  return Math.max(1, ...sizes)
}

/**
 * The reads of this transaction. An index entry counts when the index returns it, whether or not its row was wanted.
 */
const READ_SO_FAR = {
  name: 'read-so-far',
  text: `
    select coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::int as n from pg_class where relnamespace = 'bsky'::regnamespace`,
}

/** A pool that keeps which statements were asked, with their values, and how many rows and index entries each of them read. */
import { DatabasePool, type Session, type Statement } from '@sluice/database/pool.ts'

type PoolClient = Awaited<ReturnType<DatabasePool['acquire']>>

export interface Asked {
  text: string
  /** Those of the last time. */
  values: unknown[]
  /** Each time it was asked. */
  times: Reading[]
}

export interface Reading {
  /** Rows of tables that were read from end to end, and entries of indexes. */
  read: number
  /** How many things were asked for: the longest of its arrays, or one. */
  for: number
  /** How many rows came of it. */
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

  /** In a transaction: PostgreSQL tells at once what was read within one. */
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
  /** What was read since the last time; nothing when the transaction is at its end. */
  const readSince = async (): Promise<number | undefined> => {
    // A statement that failed says so itself.
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
      // What earlier transactions read and PostgreSQL has not told everybody yet is counted too.
      if (statement.startsWith('begin')) void readSince()
    } else {
      const { name, text, values: own } = statement as Statement
      if (name !== undefined) void note(name, text, values ?? own ?? [], answer)
    }
    return answer
  }
  client.query = watched as unknown as PoolClient['query']
}

/** The length of an array that is encoded already stands in its header (packages/database/array.ts), or is how many commas it has. */
function sizeOf(values: readonly unknown[]): number {
  const sizes = values.map((value) => {
    if (Buffer.isBuffer(value)) return value.readInt32BE(12)
    if (Array.isArray(value)) return value.length
    return typeof value === 'string' && value.startsWith('{') ? value.split(',').length : 1
  })
  return Math.max(1, ...sizes)
}

/** Of this transaction. Index entries count where an index returns them, whether or not the row behind them was wanted. */
const READ_SO_FAR = {
  name: 'read-so-far',
  text: `
    select coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::int as n from pg_class where relnamespace = 'bsky'::regnamespace`,
}

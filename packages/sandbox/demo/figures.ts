/** What the live table shows, read from the stores as an operator would: `XLEN`, `XRANGE … COUNT 1`, `XINFO STREAM`, `pg_stat_user_tables`. */
import { connectRedis } from '@sluice/streams/connection.ts'
import { SCHEMA } from '../template.ts'
import { DATABASE, type Stores } from './stack.ts'

export const STREAMS = ['firehose_live', 'repo_backfill', 'firehose_backfill', 'label_live'] as const

export interface StreamFigures {
  name: string
  /** Entries not yet acked. */
  depth: number
  /** Age of the oldest of them; 0 without any. */
  lagSeconds: number
  /** Ever appended. */
  appended: number
}

export interface Figures {
  /** Unix ms. */
  at: number
  streams: StreamFigures[]
  /** Rows by table, as the statistics know them: up to a second old. */
  rows: Map<string, number>
}

type Client = Awaited<ReturnType<typeof connectRedis>>

export class FigureReader implements AsyncDisposable {
  readonly #stores: Stores
  readonly #redis: Client

  private constructor(stores: Stores, redis: Client) {
    this.#stores = stores
    this.#redis = redis
  }

  static async open(stores: Stores): Promise<FigureReader> {
    return new FigureReader(stores, await connectRedis({ url: stores.redis.url(), name: 'sluice-demo' }))
  }

  async read(): Promise<Figures> {
    const at = Date.now()
    const [streams, tables] = await Promise.all([
      Promise.all(STREAMS.map((name) => this.#stream(name, at))),
      this.#stores.postgres.query<{ name: string; rows: string }>(ROWS, [SCHEMA], DATABASE),
    ])
    return { at, streams, rows: new Map(tables.map(({ name, rows }) => [name, Number(rows)])) }
  }

  async #stream(name: string, now: number): Promise<StreamFigures> {
    if ((await this.#redis.exists(name)) === 0) return { name, depth: 0, lagSeconds: 0, appended: 0 }
    const info = await this.#redis.xInfoStream(name)
    const oldest = info['first-entry']?.id
    const lagSeconds = oldest === undefined ? 0 : Math.max(0, (now - Number(oldest.split('-')[0])) / 1000)
    return { name, depth: info.length, lagSeconds, appended: info['entries-added'] }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.destroy()
    return Promise.resolve()
  }
}

const ROWS = `select relname as name, n_live_tup as rows from pg_stat_user_tables where schemaname = $1`

/**
 * What the live table shows, read from the stores as an operator would: `XLEN`, `XRANGE … COUNT 1`, `XINFO STREAM`,
 * `pg_stat_user_tables`, and the backfiller's `/metrics`.
 */
import { TransientError } from '@sluice/runtime/errors.ts'
import { classified, connectRedis } from '@sluice/streams/connection.ts'
import { type Daemon, parseMetric } from '../daemon.ts'
import { SCHEMA } from '../template.ts'
import { DATABASE, type Daemons, type Stores } from './stack.ts'

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

/** How far the backfill is. */
export interface RepoFigures {
  done: number
  /** Given up: their dead letters say why. */
  dead: number
  underWay: number
  /** Of hosts that something is under way at, or waits for. */
  hosts: number
  /** In the queue, those that are tried again later included. */
  left: number
  /** Ever, of this process. */
  records: number
  bytes: number
  /** 0 without a pace yet. */
  etaSeconds: number
}

export interface Figures {
  /** Unix ms. */
  at: number
  streams: StreamFigures[]
  /** Rows by table, as the statistics know them: up to a second old. */
  rows: Map<string, number>
  /** Undefined while the backfiller does not answer. */
  repos: RepoFigures | undefined
}

type Client = Awaited<ReturnType<typeof connectRedis>>

export class FigureReader implements AsyncDisposable {
  readonly #stores: Stores
  readonly #redis: Client
  readonly #backfiller: Daemon

  private constructor(stores: Stores, redis: Client, backfiller: Daemon) {
    this.#stores = stores
    this.#redis = redis
    this.#backfiller = backfiller
  }

  static async open(stores: Stores, daemons: Daemons): Promise<FigureReader> {
    const backfiller = daemons.all.find(({ role }) => role === 'backfiller')!
    return new FigureReader(stores, await connectRedis({ url: stores.redis.url(), name: 'sluice-demo' }), backfiller)
  }

  /** @throws Error naming the store that is away; while one is silent it may take as long as that is */
  async read(): Promise<Figures> {
    const at = Date.now()
    const [streams, repos, tables] = await Promise.all([
      classified(Promise.all(STREAMS.map((name) => this.#stream(name, at)))),
      this.#repos(),
      this.#tables(),
    ])
    return { at, streams, repos, rows: new Map(tables.map(({ name, rows }) => [name, Number(rows)])) }
  }

  async #stream(name: string, now: number): Promise<StreamFigures> {
    if ((await this.#redis.exists(name)) === 0) return { name, depth: 0, lagSeconds: 0, appended: 0 }
    const info = await this.#redis.xInfoStream(name)
    const oldest = info['first-entry']?.id
    const lagSeconds = oldest === undefined ? 0 : Math.max(0, (now - Number(oldest.split('-')[0])) / 1000)
    return { name, depth: info.length, lagSeconds, appended: info['entries-added'] }
  }

  async #tables(): Promise<{ name: string; rows: string }[]> {
    try {
      return await this.#stores.postgres.query<{ name: string; rows: string }>(ROWS, [SCHEMA], DATABASE)
    } catch (cause) {
      const { message, code } = cause as NodeJS.ErrnoException
      throw new TransientError(`PostgreSQL: ${message || code}`, { cause })
    }
  }

  async #repos(): Promise<RepoFigures | undefined> {
    const answer = await this.#backfiller.get('/metrics').catch(() => undefined)
    if (answer?.status !== 200) return undefined
    const sum = (name: string, labels: Record<string, string> = {}): number =>
      parseMetric(answer.body, `sluice_backfill_${name}`, labels).reduce((a, b) => a + b, 0)
    return {
      done: DONE.reduce((all, outcome) => all + sum('repos_total', { outcome }), 0),
      dead: sum('repos_total', { outcome: 'dead' }),
      underWay: sum('repos_under_way'),
      hosts: sum('hosts_active'),
      left: sum('queue_entries'),
      records: sum('records_total'),
      bytes: sum('bytes_total'),
      etaSeconds: sum('eta_seconds'),
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#redis.destroy()
    return Promise.resolve()
  }
}

/** Outcomes after which nothing is to be done. */
const DONE = ['exported', 'resynced', 'account', 'skipped']

const ROWS = `select relname as name, n_live_tup as rows from pg_stat_user_tables where schemaname = $1`

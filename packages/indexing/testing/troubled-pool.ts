/**
 * A pool with faults: statements are delayed, and connections are lost just after a statement was sent, so that nobody
 * knows whether it took effect.
 */
import type { Socket } from 'node:net'
import { DatabasePool, type PoolOptions } from '@sluice/database/pool.ts'
import type { Random } from '@sluice/sandbox/random.ts'

type PoolClient = Awaited<ReturnType<DatabasePool['acquire']>>
type Query = (...statement: unknown[]) => unknown

export interface Trouble {
  random: Random
  /** The share of acquired connections that are lost. */
  lost: number
  /** The share of statements before which the connection sleeps for some milliseconds. */
  dawdling: number
}

/** A connection that is to be lost is lost within so many statements: as many as a batch has. */
const STATEMENTS = 12
const DAWDLING_MS = 12

export class TroubledPool extends DatabasePool {
  /** Connections that were lost. */
  lost = 0
  readonly #trouble: Trouble
  /** For each connection, how many more statements before it is lost. */
  readonly #left = new WeakMap<PoolClient, number>()

  constructor(options: PoolOptions, trouble: Trouble) {
    super(options)
    this.#trouble = trouble
  }

  override async acquire(signal?: AbortSignal): Promise<PoolClient> {
    const client = await super.acquire(signal)
    const { random, lost } = this.#trouble
    if (!this.#left.has(client)) this.#haunt(client)
    this.#left.set(client, random.chance(lost) ? random.below(STATEMENTS) : Infinity)
    return client
  }

  #haunt(client: PoolClient): void {
    const { random, dawdling } = this.#trouble
    const query = client.query.bind(client) as unknown as Query
    const haunted: Query = (...statement) => {
      if (random.chance(dawdling)) void (query(sleep(random)) as Promise<unknown>).catch(() => {})
      const answer = query(...statement)
      const left = this.#left.get(client)!
      this.#left.set(client, left - 1)
      if (left === 0) {
        this.lost++
        socketOf(client).destroy()
      }
      return answer
    }
    client.query = haunted as unknown as PoolClient['query']
  }
}

function sleep(random: Random): string {
  return `select pg_sleep(${(1 + random.below(DAWDLING_MS)) / 1000})`
}

function socketOf(client: PoolClient): Socket {
  return (client as unknown as { connection: { stream: Socket } }).connection.stream
}

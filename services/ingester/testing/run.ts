/**
 * An ingester inside the test: the same parts as `main.ts` runs, without a process, so that many short tests are cheap.
 */
import { backfillEventCodec, streamEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { loadConfig } from '@sluice/runtime/config.ts'
import { createLogger } from '@sluice/runtime/log.ts'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { Readiness } from '@sluice/runtime/readiness.ts'
import { runServices } from '@sluice/runtime/service.ts'
import { Shutdown } from '@sluice/runtime/shutdown.ts'
import { parseMetric } from '@sluice/sandbox/daemon.ts'
import type { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { connectRedis, type Redis } from '@sluice/streams/connection.ts'
import { listIncidents } from '@sluice/streams/incidents.ts'
import { readLedger } from '@sluice/streams/ledger.ts'
import { buildIngester } from '../build.ts'
import { ingesterConfig } from '../config.ts'

export const WAIT = { timeout: 20_000, interval: 20 }

export class TestIngester {
  readonly #metrics: Metrics
  readonly #shutdown: Shutdown
  readonly #ended: Promise<number>
  readonly log: string[]
  readonly readiness: Readiness

  private constructor(
    { metrics, shutdown, readiness }: { metrics: Metrics; shutdown: Shutdown; readiness: Readiness },
    ended: Promise<number>,
    log: string[],
  ) {
    this.#metrics = metrics
    this.#shutdown = shutdown
    this.readiness = readiness
    this.#ended = ended
    this.log = log
  }

  static async start(env: Record<string, string>): Promise<TestIngester> {
    const lines: string[] = []
    const identity = { role: 'ingester', build: 'test' }
    const log = createLogger({ ...identity, destination: { write: (line: string) => void lines.push(line) } })
    const config = loadConfig(ingesterConfig, env, { known: [] })
    const metrics = new Metrics(identity)
    const readiness = new Readiness()
    const shutdown = new Shutdown({ log, readiness, drainMs: 20_000 })
    const resources = new AsyncDisposableStack()
    const { signal } = shutdown
    const context = { config, build: 'test', log, metrics, readiness, signal, resources }
    const services = await buildIngester(context).catch(async (error: unknown) => {
      shutdown[Symbol.dispose]()
      await resources.disposeAsync()
      throw error
    })
    const run = async (): Promise<void> => {
      await runServices(services, { log, metrics, readiness, shutdown })
      await resources.disposeAsync()
    }
    return new TestIngester({ metrics, shutdown, readiness }, shutdown.exitCodeOf(run()), lines)
  }

  /** The sum over the series of a metric that carry `labels`. */
  async metric(name: string, labels: Record<string, string> = {}): Promise<number> {
    const values = parseMetric(await this.#metrics.render(), name, labels)
    if (values.length === 0) throw new Error(`there is no metric ${name}${JSON.stringify(labels)}`)
    return values.reduce((sum, value) => sum + value, 0)
  }

  /** Resolves with the exit code when it ends by itself, or was stopped. */
  get ended(): Promise<number> {
    return this.#ended
  }

  /** Drains. @throws Error with its log when it did not end well */
  async stop(): Promise<void> {
    this.#shutdown.begin('the test has ended')
    const code = await this.#ended
    this.#shutdown[Symbol.dispose]()
    if (code !== 0) throw new Error(`the ingester ended with ${code}:\n${this.log.slice(-20).join('')}`)
  }
}

export interface Tools {
  redis: Redis
  /** Starts an ingester of the firehose that reads the relay from its oldest frame; it ends with the test. */
  ingest(relay: FakeRelay, env?: Record<string, string>): Promise<TestIngester>
  events(): Promise<StreamEvent[]>
  requests(): Promise<BackfillEvent[]>
  /** What became of the frames, as Redis holds it. */
  ledger(relay: FakeRelay): Promise<Record<string, number>>
  cursor(relay: FakeRelay): Promise<string | null>
  incidents(): Promise<string[]>
}

export const test = base.extend('tools', async ({ redisUrl }, { onCleanup }): Promise<Tools> => {
  const redis = await connectRedis({ url: redisUrl, name: 'test' })
  const running: TestIngester[] = []
  onCleanup(async () => {
    for (const ingester of running) await ingester.stop()
    redis.destroy()
  })
  return {
    redis,
    async ingest(relay, env = {}) {
      const ingester = await TestIngester.start({ ...envOf(relay, redisUrl), ...env })
      running.push(ingester)
      return ingester
    },
    async events() {
      return (await redis.xRange('firehose_live', '-', '+'))!.map(({ message }) => streamEventCodec.decode(message))
    },
    async requests() {
      return (await redis.xRange('repo_backfill', '-', '+'))!.map(({ message }) => backfillEventCodec.decode(message))
    },
    async ledger({ host }) {
      return Object.fromEntries(await readLedger(redis, 'firehose_live', host))
    },
    cursor: ({ host }) => redis.get(`firehose_live:cursor:${host}`),
    incidents: async () => (await listIncidents(redis, 100)).map(({ kind }) => kind),
  }
})

export function envOf(relay: FakeRelay, redisUrl: string): Record<string, string> {
  return {
    REDIS_URL: redisUrl,
    RELAY_HOSTS: relay.url,
    PLC_URL: relay.url,
    INGESTER_MODE: 'firehose',
    // A thread takes 0.3 s to start.
    INGESTER_VERIFY_THREADS: '0',
    INGESTER_INITIAL_CURSOR: '0',
    ALLOW_PRIVATE_HOSTS: 'true',
  }
}

/** Waits until everything that the relay has sent has ended, and its cursor is durable. */
export async function caughtUp(tools: Tools, relay: FakeRelay): Promise<void> {
  await expect.poll(() => tools.cursor(relay), WAIT).toBe(String(relay.seq))
}

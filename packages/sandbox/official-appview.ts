/**
 * The official AppView (npm `@atproto/bsky`, by way of `@atproto/dev-env`) on our network: the oracle for rows, and a
 * reader for whatever database holds them.
 *
 * Its indexer gets one event after the other. With its own concurrency, two runs over the same events differ (replies,
 * gates and notifications depend on the order); one event at a time, they agree.
 */
import { TestBsky, TestBsync, TestPds as DevPds, mockNetworkUtilities } from '@atproto/dev-env'
import { type EventRunner, Firehose } from '@atproto/sync'
import type { Network } from './network.ts'
import { freePort, releasePort } from './ports.ts'

export interface OfficialAppViewOptions {
  /** An empty database. Its tables go to `schema`. */
  postgresUrl: string
  /** Default `bsky`. */
  schema?: string
  redisUrl: string
  /** DIDs of labelers whose labels it shows to everybody. */
  labelers?: readonly Did[]
}

export interface OfficialAppView extends AsyncDisposable {
  /** Its XRPC API. */
  url: string
  /** The audience of its service tokens. */
  did: string
  /** The running program, for what no API offers. */
  program: TestBsky
  /** The errors of its indexer. */
  errors: readonly Error[]
  /** Resolves when everything that the PDS has sequenced so far is indexed, background work included. */
  caughtUp(timeoutMs?: number): Promise<void>
  close(): Promise<void>
}

type Did = `did:${string}:${string}`

const BSYNC_KEY = 'sandbox'

export async function startOfficialAppView(
  network: Network,
  options: OfficialAppViewOptions,
): Promise<OfficialAppView> {
  const { postgresUrl, schema = 'bsky', redisUrl, labelers } = options
  const [port, bsyncPort, nobody] = [await freePort(), await freePort(), await freePort()]
  const pds = new DevPds(network.pds.url, Number(new URL(network.pds.url).port), network.pds.server)
  const bsync = await TestBsync.create({
    port: bsyncPort,
    apiKeys: [BSYNC_KEY],
    dbUrl: postgresUrl,
    dbSchema: `${schema}_bsync`,
  })
  const bsky = await TestBsky.create({
    port,
    plcUrl: network.plcUrl,
    pdsPort: pds.port,
    // Nobody listens at this address, so its own subscription gets no events: `serialFirehose` replaces it.
    repoProvider: `ws://127.0.0.1:${nobody}`,
    dbPostgresUrl: postgresUrl,
    dbPostgresSchema: schema,
    redisHost: new URL(redisUrl).host,
    bsyncUrl: bsync.url,
    bsyncApiKey: BSYNC_KEY,
    ...(labelers && { labelsFromIssuerDids: [...labelers] }),
  })
  mockNetworkUtilities(pds, bsky)
  const errors: Error[] = []
  const runner = new SerialRunner(() => bsky.sub.background.processAll(), errors)
  const firehose = serialFirehose(bsky, network.pds.url, runner, errors)
  const running = firehose.start()

  const close = async (): Promise<void> => {
    await firehose.destroy()
    await running
    await runner.drained
    await bsky.close()
    await bsync.close()
    for (const used of [port, bsyncPort, nobody]) releasePort(used)
  }
  return {
    url: bsky.url,
    did: bsky.serverDid,
    program: bsky,
    errors,
    async caughtUp(timeoutMs = 120_000) {
      const target = (await network.pds.server.ctx.sequencer.curr()) ?? 0
      const deadline = Date.now() + timeoutMs
      while (runner.done < target) {
        if (Date.now() > deadline)
          throw new Error(`the official AppView is at ${runner.done} of ${target}: ${errors.join('; ')}`)
        await new Promise((resolve) => setTimeout(resolve, 25))
      }
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

/** The AppView's own subscription with the same handler, but on a runner that processes one event at a time. */
function serialFirehose(bsky: TestBsky, pdsUrl: string, runner: EventRunner, errors: Error[]): Firehose {
  const { current } = bsky.sub as unknown as { current: { firehose: Firehose } }
  return new Firehose({
    ...current.firehose.opts,
    service: pdsUrl.replace(/^http/, 'ws'),
    runner,
    onError: (error) => void errors.push(error),
  })
}

const TRIES = 5

function isTimeout({ name, message, cause }: Error): boolean {
  const itself = name === 'TimeoutError' || name === 'AbortError' || /time(?:d )?-?out/i.test(message)
  return itself || (cause instanceof Error && isTimeout(cause))
}

/** Starts each event only when all events before it are done, with what `finish` waits for after each. */
class SerialRunner implements EventRunner {
  /** The last event handled. */
  done = 0
  drained: Promise<void> = Promise.resolve()
  readonly #finish: () => Promise<void>
  readonly #errors: Error[]

  constructor(finish: () => Promise<void>, errors: Error[]) {
    this.#finish = finish
    this.#errors = errors
  }

  getCursor(): number {
    return this.done
  }

  trackEvent(_did: string, seq: number, handle: () => Promise<void>): Promise<void> {
    this.drained = this.#after(this.drained, seq, handle)
    return this.drained
  }

  async #after(previous: Promise<void>, seq: number, handle: () => Promise<void>): Promise<void> {
    await previous
    for (let tries = 1; ; tries++) {
      const before = this.#errors.length
      try {
        await handle()
        await this.#finish()
      } catch (error) {
        this.#errors.push(error as Error)
      }
      // At nearly every event the AppView asks the directory; it waits 3 s, and then drops the event. On a busy machine
      // that is no fault of its indexer, so the event is tried again.
      if (tries === TRIES || !this.#errors.slice(before).some(isTimeout)) break
      this.#errors.splice(before)
    }
    this.done = seq
  }
}

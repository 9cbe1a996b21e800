/**
 * Finds the repositories that the index should hold. The first listing requests all of them, a sweep only those that
 * are missing or behind. Sweeps run at an interval and on demand: when a relay has lost events, or when an operator
 * asks (`SET repo_backfill:sweep now`).
 *
 * A sweep leaves out what the live stream may still bring. When the live stream is far behind, that may include
 * repositories that were missing at the time of the demand. Then the sweep does not meet the demand, and another
 * follows.
 *
 * Never ends by itself: after the last page it waits for the next sweep.
 */
import PQueue from 'p-queue'
import type { ListedHost, XrpcClient } from '@sluice/atproto/xrpc.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { sleep, type BackoffPolicy, type Retry } from '@sluice/runtime/backoff.ts'
import { describeError, type TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { cursorKey, INGESTER_DONE, readCursor } from '@sluice/streams/cursors.ts'
import type { Producer } from '@sluice/streams/producer.ts'
import type { Shard } from '@sluice/streams/spread.ts'
import { listHosts } from './host-list.ts'
import { isHostFault, listRepos } from './repo-list.ts'
import type { ListingOutcome } from './listing.ts'
import { stuckKey } from './stuck-cursor.ts'
import { demandedAt, SweepSchedule } from './sweep-demand.ts'
import { parseUpstream, type Upstream } from './upstream.ts'

export interface ReposOptions {
  redis: Redis
  xrpc: Pick<XrpcClient, 'listRepos' | 'listHosts'>
  producer: Producer<BackfillEvent>
  log: Logger
  upstreams: readonly Upstream[]
  source: 'relay' | 'hosts'
  sweepIntervalMs: number
  sweepGraceMs: number
  skipHosts: ReadonlySet<string>
  skipDids: ReadonlySet<string>
  shard: Shard
  allowPrivate: boolean
  /** How far the live stream of a relay is behind, in ms. What it may still bring is not missing. */
  liveLagMs: (relay: string) => Promise<number>
  onSuspects: (dids: readonly string[]) => void
  observer: ReposObserver
  pollMs?: number
  againMs?: number
  backoff?: BackoffPolicy
  hostPages?: number
  hostAnswersMs?: number
}

export interface ReposObserver {
  listed(counts: ReadonlyMap<ListingOutcome, number>): void
  phase(phase: Phase): void
  hostFailed(): void
  waiting(): void
}

export const PHASES = ['listing', 'sweeping', 'waiting'] as const
export type Phase = (typeof PHASES)[number]

const HOST_CONCURRENCY = 16
const HOST_TRIES = 5
/**
 * The most pages of one host in a pass: five million accounts. A host that makes up cursors would otherwise never end
 * the pass.
 */
const HOST_PAGES = 5_000
/**
 * The most time that the answers of one host may take in a pass. A slow host would otherwise hold one of the
 * `HOST_CONCURRENCY` places for days. The next pass goes on at the host's cursor.
 */
const HOST_ANSWERS_MS = 3_600_000
const BACKOFF: BackoffPolicy = { baseMs: 1_000, capMs: 60_000, healthyAfterMs: 0 }
/** Hosts that a relay has given up. */
const DEAD_STATUS = new Set(['offline', 'banned'])

interface PassKind {
  isSweep: boolean
  cursorKey: (host: string) => string
  stuckKey: (host: string) => string
}

/** One pass over all repositories. */
interface Pass extends PassKind {
  /** Hosts whose listing has begun. Two relays may name the same host, and a cursor must have one reader. */
  begun: Set<string>
  /**
   * When the oldest revision that was left out as too young was made (Unix ms). Infinity: none was left out. -Infinity:
   * this pass continues one from before the start, which may have left out anything.
   */
  leftOutSinceMs: number
}

/** What is listed: a relay itself, or one of the hosts that it knows. */
interface Lister {
  upstream: Upstream
  /** The relay whose live stream brings what is new there. */
  relay: Upstream
  cursorKey: string
}

export class Repos implements Service {
  readonly name = 'repos'
  readonly #options: ReposOptions
  readonly #backoff: BackoffPolicy
  readonly #listing: PassKind
  readonly #sweep: PassKind
  readonly #schedule: SweepSchedule

  constructor(options: ReposOptions) {
    this.#options = options
    this.#backoff = options.backoff ?? BACKOFF
    const { stream } = options.producer
    this.#listing = { isSweep: false, ...keysOf(stream) }
    this.#sweep = { isSweep: true, ...keysOf(`${stream}:sweep`) }
    this.#schedule = new SweepSchedule({ ...options, repoStream: stream })
  }

  async run(signal: AbortSignal): Promise<void> {
    const { observer, log } = this.#options
    try {
      observer.phase('listing')
      await this.#pass(this.#listing, signal)
      for (;;) {
        observer.phase('waiting')
        const why = await this.#schedule.untilDue(signal)
        log.info({ why }, 'a sweep of all repositories begins')
        observer.phase('sweeping')
        const { leftOutSinceMs } = await this.#pass(this.#sweep, signal)
        if (leftOutSinceMs <= demandedAt(why)) {
          await this.#schedule.unmet(why)
          log.info('the sweep ended; another follows, because it left out repositories that may be missing')
        } else {
          await this.#schedule.met(why)
          log.info('the sweep ended')
        }
      }
    } catch (error) {
      if (!signal.aborted) throw error
    }
  }

  async #pass(kind: PassKind, signal: AbortSignal): Promise<Pass> {
    const pass = { ...kind, begun: new Set<string>(), leftOutSinceMs: Infinity }
    const stop = new AbortController()
    const stopped = AbortSignal.any([signal, stop.signal])
    let failure: unknown
    const passing = this.#options.upstreams.map(async (upstream) =>
      this.#passUpstream(upstream, pass, stopped).catch((error: unknown) => {
        failure ??= error
        stop.abort()
      }),
    )
    // Waits for all of them, also after a failure: when we are run again, no cursor may be moving any more.
    await Promise.all(passing)
    if (failure !== undefined) throw failure as Error
    return pass
  }

  async #passUpstream(upstream: Upstream, pass: Pass, signal: AbortSignal): Promise<void> {
    const { redis, log, source } = this.#options
    const key = pass.cursorKey(upstream.host)
    const stored = await readCursor(redis, key)
    if (!pass.isSweep && stored === INGESTER_DONE) {
      log.info({ host: upstream.host }, 'its repositories were listed before')
      return
    }
    if (stored !== null && stored !== INGESTER_DONE) pass.leftOutSinceMs = -Infinity
    // The operator of the relay, or ours, may mend this. Nothing else can be done meanwhile.
    for (;;) {
      try {
        if (source === 'hosts') await this.#passHosts(upstream, pass, signal)
        else await this.#list({ upstream, relay: upstream, cursorKey: key }, pass, signal)
        log.info({ host: upstream.host }, 'all repositories are listed')
        return
      } catch (error) {
        if (!isHostFault(error)) throw error
        log.error(
          { host: upstream.host, error: describeError(error) },
          `the relay does not list its ${source === 'hosts' ? 'hosts' : 'repositories'}, asked again in 10 min`,
        )
        this.#options.observer.hostFailed()
        await sleep(600_000, signal)
      }
    }
  }

  /** Lists each host that the relay knows, many at a time. A host that fails is left for the next sweep. */
  async #passHosts(relay: Upstream, pass: Pass, signal: AbortSignal): Promise<void> {
    const { redis, skipHosts, producer } = this.#options
    const hosts = new PQueue({ concurrency: HOST_CONCURRENCY })
    let failure: unknown
    try {
      for await (const { hostname, status } of this.#hosts(relay, signal)) {
        const host = parseUpstream(this.#options.allowPrivate ? `http://${hostname}` : hostname)
        if (host === undefined || skipHosts.has(host.host) || DEAD_STATUS.has(status ?? '')) continue
        if (pass.begun.has(host.host)) continue
        pass.begun.add(host.host)
        await hosts.onSizeLessThan(HOST_CONCURRENCY)
        if (failure !== undefined) break
        hosts.add(() => this.#passHost(host, relay, pass, signal)).catch((error: unknown) => (failure ??= error))
      }
    } finally {
      // Also when the relay's list breaks off: when it is tried again, no host's cursor may be moving any more.
      await hosts.onIdle()
    }
    signal.throwIfAborted()
    if (failure !== undefined) throw failure as Error
    const key = pass.cursorKey(relay.host)
    const from = await readCursor(redis, key)
    if (from !== INGESTER_DONE) await producer.append([], signal, { cursor: { key, from, to: INGESTER_DONE } })
  }

  async #passHost(host: Upstream, relay: Upstream, pass: Pass, signal: AbortSignal): Promise<void> {
    const { redis, observer, log } = this.#options
    const key = pass.cursorKey(host.host)
    try {
      if (!pass.isSweep && (await readCursor(redis, key)) === INGESTER_DONE) return
      await this.#list({ upstream: host, relay, cursorKey: key }, pass, signal)
    } catch (error) {
      if (signal.aborted) return
      if (!isHostFault(error)) throw error
      observer.hostFailed()
      log.info(
        { host: host.host, error: describeError(error) },
        'a host does not list its repositories; left for the next sweep',
      )
    }
  }

  /** @throws RefusedError, GivenUpError: see `isHostFault` */
  #hosts(relay: Upstream, signal: AbortSignal): AsyncGenerator<ListedHost> {
    const { xrpc, observer, log } = this.#options
    const { host } = relay
    const onWait = (wait: Retry): void => this.#onWait(host, wait)
    const onAnew = (error: TransientError): void => {
      observer.hostFailed()
      log.warn({ host, error: describeError(error) }, 'a relay fails on a cursor of its list of hosts: begun anew')
    }
    return listHosts({ xrpc, relay, backoff: this.#backoff, onWait, onAnew }, signal)
  }

  async #list({ upstream, relay, cursorKey }: Lister, pass: Pass, signal: AbortSignal): Promise<void> {
    const { redis, xrpc, producer, skipDids, shard, onSuspects, observer } = this.#options
    const { hostPages = HOST_PAGES, hostAnswersMs = HOST_ANSWERS_MS } = this.#options
    const isPds = upstream !== relay
    let horizonMs = await this.#horizonMs(relay)
    await listRepos(
      {
        redis,
        xrpc,
        producer,
        url: upstream.webUrl,
        cursorKey,
        stuckKey: pass.stuckKey(upstream.host),
        backoff: this.#backoff,
        ...(isPds && { triesMax: HOST_TRIES, pagesMax: hostPages, answersMs: hostAnswersMs }),
        listing: () => ({ host: upstream.host, isPds, isSweep: pass.isSweep, horizonMs, skipDids, shard }),
        onPage: async ({ outcomes, suspects, leftOutSinceMs }) => {
          pass.leftOutSinceMs = Math.min(pass.leftOutSinceMs, leftOutSinceMs)
          if (suspects.length > 0) onSuspects(suspects)
          observer.listed(countOf(outcomes))
          horizonMs = await this.#horizonMs(relay)
        },
        onWait: (wait) => this.#onWait(upstream.host, wait),
        onAnew: (times, error) => this.#onAnew(upstream.host, times, error),
      },
      signal,
    )
  }

  /** The time (Unix ms) before which a revision that we do not have will not come by the live stream any more. */
  async #horizonMs({ host }: Upstream): Promise<number> {
    const { sweepGraceMs, liveLagMs } = this.#options
    return Date.now() - sweepGraceMs - (await liveLagMs(host))
  }

  #onWait(host: string, { error, delayMs }: Retry): void {
    const { log, observer } = this.#options
    observer.waiting()
    logRetry(log, delayMs, `listing ${host} failed`, error)
  }

  /** A host whose listing begins again and again never comes to its end. The repositories at the end are not found. */
  #onAnew(host: string, times: number, error: TransientError): void {
    const { log, observer } = this.#options
    observer.hostFailed()
    const what =
      'a host has failed for hours on the cursor where its listing was to go on, but does list from the start'
    const found = { host, times, error: describeError(error) }
    if (times === 1) log.warn(found, `${what}: its listing begins anew`)
    else
      log.error(
        found,
        `${what}: its listing begins anew once more, and has not come to its end in between. Tell the operator of the host`,
      )
  }
}

/** @param name the beginning of the keys of a kind of pass */
function keysOf(name: string): Omit<PassKind, 'isSweep'> {
  return { cursorKey: (host) => cursorKey(name, host), stuckKey: (host) => stuckKey(name, host) }
}

function countOf(outcomes: readonly ListingOutcome[]): Map<ListingOutcome, number> {
  const counts = new Map<ListingOutcome, number>()
  for (const outcome of outcomes) counts.set(outcome, (counts.get(outcome) ?? 0) + 1)
  return counts
}

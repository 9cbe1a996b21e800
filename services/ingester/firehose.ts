/**
 * The live stream: relays → pipeline → journal → `firehose_live`.
 *
 * All relays share one pipeline and one journal. So the frames of one account keep one order, and an event that two
 * relays send is recognized as a duplicate. On a stop nothing more is read; what was taken is finished and stored.
 */
import { TransientError, FatalError, isAbort } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Readiness } from '@sluice/runtime/readiness.ts'
import type { Service } from '@sluice/runtime/service.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { cursorKey, readCursor, timeKey } from '@sluice/streams/cursors.ts'
import { CursorConflictError, type Producer } from '@sluice/streams/producer.ts'
import type { RefusedFrame } from '@sluice/streams/refused-frames.ts'
import { Chains } from './chains.ts'
import { Journal, type JournalObserver, type QueuedFinding } from './journal.ts'
import type { Decision } from './decide.ts'
import type { FirehoseMetrics } from './metrics.ts'
import { refused } from './outcome.ts'
import { Pipeline, type Verifying } from './pipeline.ts'
import type { RefusalSamples } from './refusal-samples.ts'
import { Refusals } from './refusals.ts'
import { Relay, type RelayObserver, type RelayOptions } from './relay.ts'
import { ResyncLimit } from './resync-limit.ts'
import { ResyncStorm } from './resync-storm.ts'
import type { SigningKeys } from './signing-keys.ts'
import { Source } from './source.ts'
import type { Upstream } from './upstream.ts'

export interface FirehoseOptions {
  redis: Redis
  producer: Producer<string>
  keys: SigningKeys
  verifying: Verifying
  log: Logger
  readiness: Readiness
  metrics: FirehoseMetrics
  /** Keeps some of what is refused for the operator. */
  samples: Pick<RefusalSamples, 'note'>
  upstreams: readonly Upstream[]
  needsKeys: boolean
  memoryBytes: number
  batchEvents: number
  batchMs: number
  repoStream: string
  repoEntriesMax: number
  resyncsPerSecond: number
  relay: Pick<RelayOptions, 'initialCursor' | 'futureCursorReset' | 'idleMs' | 'pauseMs' | 'skipDids' | 'shard'>
  recordIncident: RelayOptions['recordIncident']
  /** Called with accounts that commit although they are said to be inactive. */
  onSuspects: (dids: readonly string[]) => void
}

const INACTIVE = refused('account-inactive')
/** How long the last appends may take once everything is to stop. */
const LAST_APPENDS_MS = 10_000

export class Firehose implements Service {
  readonly name = 'firehose'
  readonly #options: FirehoseOptions
  /**
   * The last durable cursor of each relay, as this process knows it: Redis may come back with an older one, or none.
   */
  readonly #cursors = new Map<string, number>()
  /** When the event at that cursor happened, Unix ms. */
  readonly #times = new Map<string, number>()
  #sources: readonly Source[] = []
  #pipeline: Pipeline | undefined

  constructor(options: FirehoseOptions) {
    this.#options = options
  }

  /** Bytes between socket and Redis. */
  get underWayBytes(): number {
    return this.#pipeline?.usedBytes ?? 0
  }

  /** When the newest durable event of a host happened, Unix ms; undefined when none is known. */
  eventTimeMs(host: string): number | undefined {
    return this.#times.get(host)
  }

  async run(signal: AbortSignal): Promise<void> {
    const stop = new AbortController()
    const stopped = AbortSignal.any([signal, stop.signal])
    using refusals = new Refusals(this.#options.log)
    // Before the first `await`: otherwise /ready would say yes in between.
    for (const { host } of this.#options.upstreams) this.#options.readiness.block(`relay ${host}`, 'connecting')
    this.#sources = await Promise.all(this.#options.upstreams.map(async ({ host }) => this.#open(host)))
    const { journal, pipeline } = this.#build(stopped, () => stop.abort(), refusals)
    this.#pipeline = pipeline
    // When one part fails, all stop: nothing more is read.
    const orStop = async (part: Promise<void>): Promise<void> => {
      try {
        await part
      } catch (error) {
        stop.abort()
        throw error
      }
    }
    const hard = new AbortController()
    const writing = orStop(journal.run(hard.signal))
    // A failure is looked at below, when nothing is read any more.
    writing.catch(() => {})
    const reading = this.#options.upstreams.map((upstream, i) =>
      orStop(this.#relay(upstream, this.#sources[i]!, pipeline, refusals).run(stopped)),
    )
    const read = await Promise.allSettled(reading)
    const deadline = setTimeout(() => hard.abort(), LAST_APPENDS_MS)
    const [drained] = await Promise.allSettled([pipeline.drained()])
    try {
      // Whatever has a finding is stored, also when another part has failed.
      journal.close()
      await writing.catch((error: unknown) => this.#explain(error, hard.signal))
    } finally {
      clearTimeout(deadline)
    }
    const failed = [drained, ...read].find((result) => result.status === 'rejected')
    if (failed) throw failed.reason
  }

  async #open(host: string): Promise<Source> {
    const { producer, redis, recordIncident, log } = this.#options
    const key = cursorKey(producer.stream, host)
    const text = await readCursor(redis, key)
    const stored = parseCursor(key, text)
    const last = this.#cursors.get(host)
    if (last !== undefined && (stored === undefined || stored < last)) {
      const what = `${key} is at ${stored ?? 'nothing'}, and was at ${last}: Redis has gone back in time or was emptied`
      const action =
        stored === undefined ? `goes on at ${last}; a sweep finds what is missing` : `reads again from ${stored}`
      log.error({ what, action }, 'the cursor went back')
      await recordIncident({ kind: 'cursor-behind', what, action, isLoss: stored === undefined })
    }
    if (stored !== undefined) await this.#recall(host)
    if (stored !== undefined || last === undefined) return new Source(producer.stream, host, stored)
    // Redis has lost the cursor, and we know it. The first append must find none there, and reading goes on where we
    // were.
    const source = new Source(producer.stream, host, undefined)
    source.progress.restartAt(last)
    return source
  }

  /**
   * Reads from Redis when the event at the cursor happened. So the lag is known before the first event of this process
   * is durable: there may never be one.
   */
  async #recall(host: string): Promise<void> {
    const { redis, producer } = this.#options
    const timeMs = Date.parse((await readCursor(redis, timeKey(producer.stream, host))) ?? '')
    if (!Number.isNaN(timeMs)) this.#times.set(host, timeMs)
  }

  #build(signal: AbortSignal, onFailed: () => void, refusals: Refusals): { journal: Journal; pipeline: Pipeline } {
    const options = this.#options
    const { redis, producer, keys, verifying, needsKeys, memoryBytes, repoStream } = options
    const chains = new Chains(redis)
    const storm = new ResyncStorm(options, signal)
    const observer: JournalObserver = {
      stored: (findings, decision) => {
        pipeline.release(findings)
        this.#count(findings, decision)
        storm.turnedAway(decision.turnedAway, performance.now())
      },
      appended: (seconds) => options.metrics.appendSeconds.observe(seconds),
      conflict: (records) => options.metrics.conflicts.inc(records),
      trouble: (error, delayMs) =>
        options.log.warn({ error: error.message, delayMs }, 'reading chain records from Redis failed, tried again'),
    }
    const journal: Journal = new Journal({
      redis,
      producer,
      chains,
      resyncLimit: new ResyncLimit({
        redis,
        repoStream,
        perSecond: options.resyncsPerSecond,
        entriesMax: options.repoEntriesMax,
      }),
      repoStream,
      batchEvents: options.batchEvents,
      batchMs: options.batchMs,
      isQuiet: () => pipeline.isQuiet,
      observer,
    })
    const pipeline: Pipeline = new Pipeline({
      journal,
      chains,
      keys,
      verifying,
      needsKeys,
      memoryBytes,
      signal,
      onFailed,
      onRefused: (frame) => this.#refused(frame, refusals),
      onOpsRefused: (frame) => options.samples.note(frame),
    })
    return { journal, pipeline }
  }

  #relay(upstream: Upstream, source: Source, pipeline: Pipeline, refusals: Refusals): Relay {
    const { log, metrics, relay, recordIncident, readiness } = this.#options
    const observer: RelayObserver = {
      frame: (host, type) => metrics.frames.inc(1, { host, type }),
      refused: (frame) => this.#refused(frame, refusals),
      told: (host, name, text) => refusals.hear(host, name, text),
      connected: (host) => {
        metrics.connected.set(1, { host })
        readiness.clear(`relay ${host}`)
      },
      disconnected: (host, reason, detail) => {
        metrics.connected.set(0, { host })
        metrics.reconnects.inc(1, { host, reason })
        readiness.block(`relay ${host}`, `${reason} ${detail}`)
      },
    }
    return new Relay({ upstream, source, pipeline, log, observer, recordIncident, ...relay })
  }

  #refused(frame: RefusedFrame, refusals: Refusals): void {
    refusals.note(frame.did, frame.reason, frame.detail)
    this.#options.samples.note(frame)
  }

  /** Samples commits that are valid, and refused because of their accounts. Their frames are not held any longer. */
  #sampleInactive(findings: readonly QueuedFinding[], { outcomes }: Decision): void {
    for (const [i, { finding, slot }] of findings.entries()) {
      if (outcomes[i] !== INACTIVE) continue
      const { host, did } = finding
      const detail = 'its host says that the account is not active'
      const about = { reason: 'account-inactive', detail, host, seq: slot.seq, did }
      this.#options.samples.note({ ...about, type: finding.what.kind, bytes: undefined })
    }
  }

  #count(findings: readonly QueuedFinding[], decision: Decision): void {
    const { metrics, onSuspects, readiness } = this.#options
    this.#sampleInactive(findings, decision)
    for (const outcome of decision.outcomes) metrics.outcomes.inc(1, { outcome })
    for (const { cause, answer } of decision.resyncs) metrics.resyncs.inc(1, { cause, answer })
    for (const { finding } of findings) {
      if (finding.what.kind !== 'commit') continue
      for (const reason of finding.what.refusedOps) metrics.refusedOps.inc(1, { reason })
    }
    metrics.events.inc(decision.entries.length)
    if (decision.suspects.length > 0) onSuspects(decision.suspects)
    for (const { source, slot } of findings.slice(-1)) {
      const timeMs = Date.parse(slot.time ?? '')
      if (Number.isNaN(timeMs)) continue
      const delaySeconds = Math.max(0, (Date.now() - timeMs) / 1_000)
      this.#times.set(source.host, timeMs)
      metrics.delay.observe(delaySeconds)
      readiness.setLag('firehose', delaySeconds)
    }
    for (const { host, progress } of this.#sources) {
      if (progress.cursor === undefined) continue
      this.#cursors.set(host, progress.cursor)
      metrics.seq.set(progress.cursor, { host })
    }
  }

  /**
   * Turns a failure of the journal into the error that `run` throws, or into none.
   * @throws TransientError when Redis has gone back in time; otherwise `error`
   */
  #explain(error: unknown, hard: AbortSignal): void {
    const { log } = this.#options
    if (isAbort(error) && hard.aborted) {
      log.warn('stopped before everything that was read was stored: it is read again after the start')
      return
    }
    if (error instanceof CursorConflictError && this.#isRewind(error)) {
      throw new TransientError(`${error.key} is at ${error.found ?? 'nothing'}: Redis has gone back in time`, {
        cause: error,
      })
    }
    throw error
  }

  /**
   * Whether Redis has lost something: then the cursor there is lower than ours, or absent. Another ingester would have
   * moved it on.
   */
  #isRewind({ key, found }: CursorConflictError): boolean {
    if (found === null) return true
    const source = this.#sources.find(({ host }) => cursorKey(this.#options.producer.stream, host) === key)
    return Number(found) < (source?.progress.cursor ?? 0)
  }
}

function parseCursor(key: string, text: string | null): number | undefined {
  if (text === null) return undefined
  const cursor = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(cursor)) {
    throw new FatalError(
      `${key} holds "${text}", which is no cursor of a firehose. Correct it, or delete it to begin now`,
    )
  }
  return cursor
}

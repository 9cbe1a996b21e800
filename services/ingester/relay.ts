/**
 * One relay (or PDS): keeps the connection alive, and hands its frames to the pipeline in order.
 *
 * - The first connection of a process resumes after what is durable, every later one after what was taken.
 * - A frame that cannot be read is refused and counted, and stops nothing. A frame whose seq does not rise is refused
 *   too: the chain shows whether anything is missing.
 * - While there is no room, the socket is not read. If that lasts, the connection is closed, and opened again when
 *   there is room.
 * - When the relay no longer has the events after our cursor (`OutdatedCursor`), that is an incident, and a sweep is
 *   requested, unless the relay only repeats itself. When our cursor is ahead of the relay (`FutureCursor`), we wait
 *   for an operator, unless the configuration allows starting over.
 */
import { COMMIT_LIMITS } from '@sluice/atproto/commit.ts'
import { decodeFrame, type Frame, type FrameRefusal, type RepoFrame } from '@sluice/atproto/frame.ts'
import { FUTURE_CURSOR_MS, subscribe, type CloseReason, type SubscriptionItem } from '@sluice/atproto/subscribe.ts'
import { retry, sleep, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { isAbort, RefusedError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Incident } from '@sluice/streams/incidents.ts'
import type { RefusedFrame } from '@sluice/streams/refused-frames.ts'
import { isInShard, type Shard } from '@sluice/streams/spread.ts'
import { eventTime } from './event-time.ts'
import { refused, type Refusal } from './outcome.ts'
import { Outdated } from './outdated.ts'
import type { Pipeline } from './pipeline.ts'
import type { Slot } from './progress.ts'
import type { Source } from './source.ts'
import type { Upstream } from './upstream.ts'

export interface RelayOptions {
  upstream: Upstream
  source: Source
  pipeline: Pipeline
  log: Logger
  observer: RelayObserver
  /** Where to begin when there is no cursor; undefined: now. */
  initialCursor: number | undefined
  futureCursorReset: boolean
  idleMs: number
  pauseMs: number
  skipDids: ReadonlySet<string>
  shard: Shard
  /**
   * Stores an incident, and asks for a sweep when events are lost.
   * @throws TransientError
   */
  recordIncident: (incident: SourceIncident) => Promise<void>
}

/** An incident of what we read from. */
export type SourceIncident = Omit<Incident, 'role'> & {
  /** Events are lost, or may be lost: a sweep has to find what is missing. */
  isLoss: boolean
}

export type ReconnectReason = CloseReason | 'backpressure' | 'future-cursor'

export interface RelayObserver {
  frame(host: string, type: FrameType): void
  refused(frame: RefusedFrame): void
  /** The relay has sent an `#info`. */
  told(host: string, name: string, text: string | undefined): void
  connected(host: string): void
  disconnected(host: string, reason: ReconnectReason, detail: string): void
}

/** A frame that goes no further. */
interface Refused {
  reason: Refusal
  detail: string
  bytes: Buffer
  /** Absent when the frame could not be read. */
  frame?: RepoFrame
  /** Default: the slot of a frame without a position. */
  slot?: Slot
}

interface NotRisen {
  frame: RepoFrame
  bytes: Buffer
  highest: number
}

/** The label of a frame in metrics. */
export type FrameType = (typeof FRAME_TYPES)[number]
export const FRAME_TYPES = ['commit', 'sync', 'identity', 'account', 'info', 'error', 'unknown', 'unreadable'] as const

const NSID = 'com.atproto.sync.subscribeRepos'
/** After working for so long, the event loop gets a turn: for timers, pings and answers of Redis. */
const TURN_MS = 5
const NOT_RISING_MAX = 1_000
const INCIDENT_BACKOFF: BackoffPolicy = { baseMs: 250, capMs: 10_000, healthyAfterMs: 1_000 }

export class Relay {
  readonly #options: RelayOptions
  #connection = new AbortController()
  #turnAt = performance.now()
  /** Since when the present item is being taken; undefined between two items. */
  #takingSince: number | undefined
  /** Frames in a row whose seq was not above the highest. */
  #notRising = 0
  #isAhead = false
  readonly #outdated = new Outdated()
  /** How long to wait after this connection before the next. */
  #restMs = 0

  constructor(options: RelayOptions) {
    this.#options = options
  }

  get host(): string {
    return this.#options.upstream.host
  }

  /** Reads until `signal`; returns when everything that was read has been taken by the pipeline. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#connection = new AbortController()
      this.#restMs = 0
      const watch = setInterval(() => this.#watchPause(), Math.max(10, this.#options.pauseMs / 10))
      try {
        await this.#read(signal)
        if (this.#restMs > 0) await sleep(this.#restMs, signal)
      } catch (error) {
        if (!isAbort(error) || !signal.aborted) throw error
      } finally {
        clearInterval(watch)
        this.#takingSince = undefined
      }
    }
  }

  /** One subscription: until the signal, or until reading has to pause for long. */
  async #read(signal: AbortSignal): Promise<void> {
    const { upstream, source, initialCursor, idleMs } = this.#options
    const subscription = subscribe({
      host: upstream.socketUrl,
      nsid: NSID,
      cursor: () => {
        source.progress.reconnect()
        return source.progress.highest ?? initialCursor
      },
      signal: AbortSignal.any([signal, this.#connection.signal]),
      idleMs,
    })
    for await (const items of subscription) {
      for (const item of items) {
        this.#takingSince = performance.now()
        await this.#take(item, signal)
        this.#takingSince = undefined
        // The rest of `items` comes again with the next connection. When we begin anew, it lies behind what is read
        // first.
        if (signal.aborted || this.#connection.signal.aborted) return
      }
    }
  }

  #watchPause(): void {
    const { pauseMs, log, observer } = this.#options
    if (this.#takingSince === undefined || this.#connection.signal.aborted) return
    if (performance.now() - this.#takingSince < pauseMs) return
    log.warn(
      { host: this.host, pauseMs },
      'nothing could be appended for long: the connection is closed, and opened again at the cursor when there is room',
    )
    observer.disconnected(this.host, 'backpressure', 'no room')
    this.#connection.abort()
  }

  async #take(item: SubscriptionItem, signal: AbortSignal): Promise<void> {
    const { observer, log } = this.#options
    switch (item.type) {
      case 'frame':
        return this.#frame(item.bytes, signal)
      case 'open':
        this.#outdated.connected()
        observer.connected(this.host)
        log.info({ host: this.host, cursor: item.cursor ?? 'none' }, 'connected to relay')
        break
      case 'info':
        observer.frame(this.host, 'info')
        return this.#info(item.name, item.text, signal)
      case 'error':
        observer.frame(this.host, 'error')
        return this.#error(item.error, item.text, signal)
      case 'close':
        observer.disconnected(this.host, item.why, item.detail)
        logRetry(log, item.retryMs, `the connection to ${this.host} ended`, new Error(`${item.why} ${item.detail}`))
        break
    }
  }

  async #frame(input: Uint8Array, signal: AbortSignal): Promise<void> {
    const { observer, source, pipeline } = this.#options
    const bytes = Buffer.from(input.buffer, input.byteOffset, input.length)
    const frame = decode(bytes)
    if (performance.now() - this.#turnAt > TURN_MS) await this.#turn()
    if (frame instanceof RefusedError) {
      observer.frame(this.host, 'unreadable')
      return this.#refuse({ reason: frame.reason, detail: frame.message, bytes })
    }
    switch (frame.type) {
      case 'commit':
      case 'sync':
      case 'identity':
      case 'account':
        observer.frame(this.host, frame.type)
        return this.#repoFrame(frame, bytes, signal)
      default:
        observer.frame(this.host, 'unknown')
        return pipeline.end(source, source.progress.take(undefined), 'unknown-type')
    }
  }

  /** A frame about one account, which has a position. */
  async #repoFrame(frame: RepoFrame, bytes: Buffer, signal: AbortSignal): Promise<void> {
    const { source, pipeline, skipDids, shard } = this.#options
    const { did, seq, time } = frame
    const { highest = -1 } = source.progress
    if (seq <= highest) return this.#notRisen({ frame, bytes, highest }, signal)
    this.#notRising = 0
    this.#isAhead = false
    // The text of the time is not kept: it may have megabytes, and lie in the future.
    const slot = source.progress.take(seq, eventTime(time, Date.now()))
    if (!isInShard(did, shard)) return pipeline.end(source, slot, 'other-shard')
    // For every type of frame: the size of a frame bounds how much its events may take.
    if (bytes.length > COMMIT_LIMITS.frameBytes)
      return this.#refuse({ reason: 'frame-too-large', detail: `${bytes.length} bytes`, bytes, frame, slot })
    if (skipDids.has(did)) return pipeline.end(source, slot, refused('skipped-account'))
    return pipeline.push({ source, slot, frame, bytes })
  }

  async #refuse({ reason, detail, bytes, frame, slot }: Refused): Promise<void> {
    const { observer, source, pipeline } = this.#options
    const { did, type } = frame ?? { did: '', type: 'unreadable' }
    observer.refused({ reason, detail, host: this.host, seq: frame?.seq, did, type, bytes })
    await pipeline.end(source, slot ?? source.progress.take(undefined), refused(reason))
  }

  /**
   * Refuses a frame whose seq does not rise. A relay that was set up anew and does not say so sends nothing but frames
   * behind our cursor. Then its frames are of no use until the operator has decided, and are not read.
   */
  async #notRisen({ frame, bytes, highest }: NotRisen, signal: AbortSignal): Promise<void> {
    const { seq } = frame
    await this.#refuse({ reason: 'seq-not-rising', detail: `${seq} after ${highest}`, bytes, frame })
    this.#notRising++
    if (this.#notRising < NOT_RISING_MAX) return
    const what = `${this.host} sends seq ${seq} and lower, our cursor is ${highest}`
    await this.#ahead(what, signal)
    if (!this.#options.futureCursorReset) this.#rest(what)
    this.#connection.abort()
  }

  /** Waits before the next connection, as after a `FutureCursor`. */
  #rest(what: string): void {
    const { observer, log } = this.#options
    this.#restMs = FUTURE_CURSOR_MS * (1 + Math.random() / 10)
    observer.disconnected(this.host, 'future-cursor', what)
    logRetry(log, this.#restMs, `the connection to ${this.host} was closed`, new Error(what))
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve))
    this.#turnAt = performance.now()
  }

  async #info(name: string, text: string | undefined, signal: AbortSignal): Promise<void> {
    const { observer, source } = this.#options
    observer.told(this.host, name, text)
    const { highest } = source.progress
    if (name !== 'OutdatedCursor' || !this.#outdated.isNews(highest, performance.now())) return
    const what = `${this.host} no longer has all that followed our cursor ${highest}: ${text ?? name}`
    const action = 'a sweep finds what is missing'
    await this.#incident({ kind: 'outdated-cursor', what, action, isLoss: true }, signal)
  }

  async #error(error: string, text: string | undefined, signal: AbortSignal): Promise<void> {
    const { log, source } = this.#options
    log.error({ host: this.host, error, text }, 'the relay ended the stream with an error')
    if (error !== 'FutureCursor') return
    await this.#ahead(`${this.host} says that our cursor ${source.progress.highest} lies ahead of it`, signal)
  }

  async #ahead(what: string, signal: AbortSignal): Promise<void> {
    const { source, futureCursorReset } = this.#options
    this.#notRising = 0
    const isNew = !this.#isAhead
    this.#isAhead = true
    if (futureCursorReset) source.progress.restartAt(0)
    const action = futureCursorReset
      ? 'begins anew at its oldest event'
      : 'waits; if the relay was set up anew, set INGESTER_FUTURE_CURSOR_RESET=true'
    if (isNew) await this.#incident({ kind: 'future-cursor', what, action, isLoss: futureCursorReset }, signal)
  }

  async #incident(incident: SourceIncident, signal: AbortSignal): Promise<void> {
    const { recordIncident, log } = this.#options
    await retry(
      signal,
      INCIDENT_BACKOFF,
      () => recordIncident(incident),
      ({ error, delayMs }) => logRetry(log, delayMs, 'recording an incident failed', error),
    )
  }
}

function decode(bytes: Buffer): Frame | RefusedError<FrameRefusal> {
  try {
    return decodeFrame(bytes)
  } catch (error) {
    if (error instanceof RefusedError) return error as RefusedError<FrameRefusal>
    throw error
  }
}

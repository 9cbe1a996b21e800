/**
 * One labeler: its stream of labels, from the oldest on, into `label_live`. Labels and cursor move in one step. A label
 * that cannot be believed is left out and counted. Trouble with one labeler affects no other. Whose labels count, and
 * from where they are read: `label-cursor.ts`.
 */
import { mayBePublic } from '@sluice/atproto/addresses.ts'
import { decodeFrame, type LabelsFrame } from '@sluice/atproto/frame.ts'
import { subscribe, type SubscriptionItem } from '@sluice/atproto/subscribe.ts'
import type { Label, LabelStreamEvent } from '@sluice/events/label-event.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import type { Incident } from '@sluice/streams/incidents.ts'
import type { Producer } from '@sluice/streams/producer.ts'
import { checkLabel, type LabelOutcome } from './label-check.ts'
import { LabelCursor } from './label-cursor.ts'
import type { RefusalSamples } from './refusal-samples.ts'
import type { Refusals } from './refusals.ts'
import type { ReconnectReason } from './relay.ts'
import { IdentityUnavailableError, type SigningKeys } from './signing-keys.ts'
import type { Upstream } from './upstream.ts'

export interface LabelerOptions {
  upstream: Upstream
  /**
   * The account of a labeler that declared itself. Then only its labels count, and those of labelers that are included
   * later, and it is asked at public addresses only. Undefined for a labeler that was configured.
   */
  did: string | undefined
  redis: Redis
  producer: Producer<LabelStreamEvent>
  /** Undefined: signatures are not checked. */
  keys: SigningKeys | undefined
  log: Logger
  /** Logs what is refused and what the host says. A stranger may cause any amount of both. */
  refusals: Pick<Refusals, 'note' | 'hear'>
  /** Keeps some of what is refused for the operator. */
  samples: Pick<RefusalSamples, 'note'>
  observer: LabelerObserver
  batchEvents: number
  publicOnly: boolean
  futureCursorReset: boolean
  recordIncident: (incident: Omit<Incident, 'role'>) => Promise<void>
}

interface Received {
  frame: LabelsFrame
  /** The whole frame. A view of memory that keeps its content only while the frame is being worked on. */
  bytes: Uint8Array
}

export interface LabelerObserver {
  labels(outcome: LabelOutcome, count: number): void
  connected(host: string): void
  disconnected(host: string, reason: ReconnectReason): void
}

const NSID = 'com.atproto.label.subscribeLabels'
const WAITS_FOR_OPERATOR =
  'waits; if the labeler was set up anew, set INGESTER_FUTURE_CURSOR_RESET=true or delete its cursor'
/** A Map, because the host chooses the name: an object would have a value for `constructor`. */
const INCIDENTS: ReadonlyMap<string, 'outdated-cursor' | 'future-cursor'> = new Map([
  ['OutdatedCursor', 'outdated-cursor'],
  ['FutureCursor', 'future-cursor'],
])

/**
 * Limits for labelers that declared themselves. Anybody may be one, and there may be INGESTER_LABELERS_MAX of them. So
 * one of them makes us hold half a megabyte at most: what waits, what is worked on, and a frame of which only a part
 * has arrived. A label has some hundred bytes, and comes alone.
 */
const STRANGERS_LIMITS = { bufferBytes: 64 * 1024, frameBytes: 64 * 1024 }

export class Labeler {
  readonly #options: LabelerOptions
  readonly #cursor: LabelCursor
  #connection = new AbortController()
  /** Incidents that were recorded: a labeler that has lost its numbers says so at every connection. */
  readonly #told = new Set<string>()

  constructor(options: LabelerOptions) {
    this.#options = options
    const { redis, producer, upstream, did } = options
    this.#cursor = new LabelCursor({ redis, producer, host: upstream.host, did })
  }

  /** Whether the labeler has an address that `run` would ask. */
  get mayBeAsked(): boolean {
    const { upstream, publicOnly } = this.#options
    const url = new URL(upstream.socketUrl)
    return !publicOnly || (url.protocol === 'wss:' && mayBePublic(url))
  }

  /**
   * Includes one more labeler that sends from this host. From the next connection on all of its labels count, also
   * those that were skipped before.
   * @returns whether it is new
   */
  include(did: string): boolean {
    return this.#cursor.include(did)
  }

  /** Connects anew when a labeler was included whose labels are skipped on this connection. */
  renew(): void {
    if (this.#cursor.skipsIncluded) this.#connection.abort()
  }

  /** @throws TransientError: to be run again; RefusedError when the host may not be asked; FatalError */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      this.#connection = new AbortController()
      const connected = AbortSignal.any([signal, this.#connection.signal])
      await this.#cursor.begin(signal)
      for await (const items of this.#subscribe(connected)) {
        await this.#store(await this.#frames(items), signal)
        if (signal.aborted) return
      }
    }
  }

  #subscribe(signal: AbortSignal): AsyncGenerator<SubscriptionItem[], void, undefined> {
    const { upstream, publicOnly, did } = this.#options
    return subscribe({
      host: upstream.socketUrl,
      nsid: NSID,
      cursor: () => this.#cursor.position,
      signal,
      idleMs: 0,
      publicOnly,
      ...(did !== undefined && STRANGERS_LIMITS),
    })
  }

  async #frames(items: readonly SubscriptionItem[]): Promise<Received[]> {
    const { upstream, observer, log } = this.#options
    const { host } = upstream
    const frames: Received[] = []
    for (const item of items) {
      switch (item.type) {
        case 'frame':
          frames.push(...this.#decode(item.bytes))
          break
        case 'open':
          observer.connected(host)
          log.info({ host, cursor: item.cursor }, 'connected to labeler')
          break
        case 'info':
          await this.#hear(item.name, item.text)
          break
        case 'error':
          await this.#hear(item.error, item.text)
          break
        case 'close':
          observer.disconnected(host, item.why)
          logRetry(
            log,
            item.retryMs,
            `the connection to labeler ${host} ended`,
            new Error(`${item.why} ${item.detail}`),
          )
      }
    }
    return frames
  }

  #decode(bytes: Uint8Array): Received[] {
    const { observer, refusals, upstream } = this.#options
    try {
      const frame = decodeFrame(bytes)
      if (frame.type !== 'labels') return []
      if (frame.refused > 0) {
        observer.labels('malformed', frame.refused)
        this.#sample({ frame, bytes }, 'malformed', `${frame.refused} items are no labels that can be stored`)
      }
      return [{ frame, bytes }]
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      refusals.note(upstream.host, error.reason, error.message)
      observer.labels('malformed', 1)
      this.#sample({ bytes }, 'malformed', error.message)
      return []
    }
  }

  #sample({ frame, bytes }: Partial<Received>, reason: LabelOutcome, detail: string, did = ''): void {
    const { samples, upstream } = this.#options
    const type = frame?.type ?? 'unreadable'
    samples.note({ reason, detail, host: upstream.host, seq: frame?.seq, did, type, bytes })
  }

  async #store(frames: readonly Received[], signal: AbortSignal): Promise<void> {
    const { batchEvents } = this.#options
    let events: LabelStreamEvent[] = []
    for (const received of frames) {
      const { seq } = received.frame
      // The host sends it again after a reconnect.
      if (seq <= this.#cursor.position) continue
      events.push(...(await this.#believed(received, signal)))
      this.#cursor.position = seq
      if (events.length < batchEvents) continue
      await this.#append(events, signal)
      events = []
    }
    await this.#append(events, signal)
  }

  async #believed(received: Received, signal: AbortSignal): Promise<LabelStreamEvent[]> {
    const { keys, upstream } = this.#options
    const { labels, seq } = received.frame
    const dids = this.#cursor.labelers
    const declared = dids && { host: upstream.host, dids }
    const events: LabelStreamEvent[] = []
    for (const label of labels) {
      const outcome = keys ? await checkLabel(label, declared, keys, signal).catch(unavailable) : 'appended'
      if (outcome === 'appended') events.push({ type: 'label', label, seq })
      else this.#refuse(received, label, outcome)
      if (outcome === 'undeclared') this.#cursor.exclude(label.src)
    }
    return events
  }

  #refuse(received: Received, { src, uri, val }: Label, outcome: LabelOutcome): void {
    this.#options.observer.labels(outcome, 1)
    this.#sample(received, outcome, `${val} on ${uri}`, src)
  }

  async #append(events: readonly LabelStreamEvent[], signal: AbortSignal): Promise<void> {
    await this.#cursor.append(events, signal)
    if (events.length > 0) this.#options.observer.labels('appended', events.length)
  }

  async #hear(name: string, text: string | undefined): Promise<void> {
    const { refusals, upstream, futureCursorReset, recordIncident } = this.#options
    const { host } = upstream
    refusals.hear(host, name, text)
    const kind = INCIDENTS.get(name)
    if (kind === undefined) return
    const what = `labeler ${host}: ${name} at our cursor ${this.#cursor.position}: ${text ?? ''}`
    let action = 'labels between are lost'
    if (kind === 'future-cursor') {
      action = futureCursorReset ? 'begins anew' : WAITS_FOR_OPERATOR
      if (futureCursorReset) this.#cursor.position = 0
    }
    if (this.#told.has(kind)) return
    this.#told.add(kind)
    await recordIncident({ kind, what, action })
  }
}

/**
 * An author who cannot be resolved does not hold up the stream for longer than that: the connection ends, and with the
 * next one the label comes again.
 */
function unavailable(error: unknown): never {
  if (error instanceof IdentityUnavailableError) {
    throw new TransientError(`the author of a label cannot be resolved: ${error.message}`, { cause: error })
  }
  throw error
}

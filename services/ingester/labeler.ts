/**
 * One labeler: its stream of labels, from the oldest on, into `label_live`. Labels and cursor move in one step; a label that cannot be believed is
 * left out and counted. What goes wrong with this labeler concerns no other.
 */
import { decodeFrame, type LabelsFrame } from '@sluice/atproto/frame.ts'
import { subscribe, type SubscriptionItem } from '@sluice/atproto/subscribe.ts'
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import { RefusedError, TransientError } from '@sluice/runtime/errors.ts'
import { logRetry, type Logger } from '@sluice/runtime/log.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { cursorKey, readCursor } from '@sluice/streams/cursors.ts'
import type { Incident } from '@sluice/streams/incidents.ts'
import { CursorConflictError, type Producer } from '@sluice/streams/producer.ts'
import { checkLabel, type LabelOutcome } from './label-check.ts'
import type { ReconnectReason } from './relay.ts'
import { IdentityUnavailableError, type SigningKeys } from './signing-keys.ts'
import type { Upstream } from './upstream.ts'

export interface LabelerOptions {
  upstream: Upstream
  /** Set for a labeler that declared itself: only its own labels count, and only at a public address. */
  did: string | undefined
  redis: Redis
  producer: Producer<LabelStreamEvent>
  /** Undefined: signatures are not checked. */
  keys: SigningKeys | undefined
  log: Logger
  observer: LabelerObserver
  batchEvents: number
  publicOnly: boolean
  futureCursorReset: boolean
  recordIncident: (incident: Omit<Incident, 'role'>) => Promise<void>
}

export interface LabelerObserver {
  labels(outcome: LabelOutcome, count: number): void
  connected(host: string): void
  disconnected(host: string, reason: ReconnectReason): void
}

const NSID = 'com.atproto.label.subscribeLabels'
const INCIDENTS: Record<string, 'outdated-cursor' | 'future-cursor'> = {
  OutdatedCursor: 'outdated-cursor',
  FutureCursor: 'future-cursor',
}

export class Labeler {
  readonly #options: LabelerOptions
  readonly #key: string
  /** As it is in Redis. */
  #stored: string | null = null
  #cursor = 0
  /** A labeler that lost its numbers says so at every connect; the operator is told once. */
  readonly #told = new Set<string>()

  constructor(options: LabelerOptions) {
    this.#options = options
    this.#key = cursorKey(options.producer.stream, options.upstream.host)
  }

  /** @throws TransientError, to be run again; RefusedError when the host may not be asked; FatalError */
  async run(signal: AbortSignal): Promise<void> {
    const { redis, upstream, publicOnly } = this.#options
    this.#stored = await readCursor(redis, this.#key)
    this.#cursor = /^\d+$/.test(this.#stored ?? '') ? Number(this.#stored) : 0
    const subscription = subscribe({
      host: upstream.socketUrl,
      nsid: NSID,
      cursor: () => this.#cursor,
      signal,
      idleMs: 0,
      publicOnly,
    })
    for await (const items of subscription) {
      await this.#store(await this.#frames(items), signal)
      if (signal.aborted) return
    }
  }

  async #frames(items: readonly SubscriptionItem[]): Promise<LabelsFrame[]> {
    const { upstream, observer, log } = this.#options
    const { host } = upstream
    const frames: LabelsFrame[] = []
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

  #decode(bytes: Uint8Array): LabelsFrame[] {
    const { observer, log, upstream } = this.#options
    try {
      const frame = decodeFrame(bytes)
      if (frame.type !== 'labels') return []
      if (frame.refused > 0) observer.labels('malformed', frame.refused)
      return [frame]
    } catch (error) {
      if (!(error instanceof RefusedError)) throw error
      log.warn({ host: upstream.host, error: error.message }, 'a labeler sent what cannot be read')
      observer.labels('malformed', 1)
      return []
    }
  }

  async #store(frames: readonly LabelsFrame[], signal: AbortSignal): Promise<void> {
    const { batchEvents } = this.#options
    let events: LabelStreamEvent[] = []
    for (const frame of frames) {
      // Sent again after a reconnect.
      if (frame.seq <= this.#cursor) continue
      events.push(...(await this.#believed(frame, signal)))
      this.#cursor = frame.seq
      if (events.length < batchEvents) continue
      await this.#append(events, signal)
      events = []
    }
    await this.#append(events, signal)
  }

  async #believed({ labels, seq }: LabelsFrame, signal: AbortSignal): Promise<LabelStreamEvent[]> {
    const { keys, did, observer } = this.#options
    const events: LabelStreamEvent[] = []
    for (const label of labels) {
      const outcome = keys ? await checkLabel(label, did, keys, signal).catch(unavailable) : 'appended'
      if (outcome === 'appended') events.push({ type: 'label', label, seq })
      else observer.labels(outcome, 1)
    }
    return events
  }

  async #append(events: readonly LabelStreamEvent[], signal: AbortSignal): Promise<void> {
    const { producer, observer } = this.#options
    const to = String(this.#cursor)
    if (to === this.#stored) return
    try {
      await producer.append(events, signal, { cursor: { key: this.#key, from: this.#stored, to } })
    } catch (error) {
      if (!(error instanceof CursorConflictError)) throw error
      // Lower, or gone: Redis has gone back in time, and the labels since then are read again.
      if (Number(error.found ?? 0) > Number(this.#stored ?? 0)) throw error
      throw new TransientError(`${this.#key} has gone back to ${error.found ?? 'nothing'}`, { cause: error })
    }
    this.#stored = to
    if (events.length > 0) observer.labels('appended', events.length)
  }

  async #hear(name: string, text: string | undefined): Promise<void> {
    const { log, upstream, futureCursorReset, recordIncident } = this.#options
    const { host } = upstream
    log.warn({ host, name, text }, 'a labeler informs us')
    const kind = INCIDENTS[name]
    if (kind === undefined) return
    const isReset = kind === 'future-cursor' && futureCursorReset
    const what = `labeler ${host}: ${name} at our cursor ${this.#cursor}: ${text ?? ''}`
    const waits = 'waits; if the labeler was set up anew, set INGESTER_FUTURE_CURSOR_RESET=true or delete its cursor'
    const action = kind === 'outdated-cursor' ? 'labels between are lost' : isReset ? 'begins anew' : waits
    if (isReset) this.#cursor = 0
    if (this.#told.has(kind)) return
    this.#told.add(kind)
    await recordIncident({ kind, what, action })
  }
}

/** An author whose key cannot be had for long holds up a stream no longer than that; what is waited for comes again with the connection. */
function unavailable(error: unknown): never {
  if (error instanceof IdentityUnavailableError) {
    throw new TransientError(`the author of a label cannot be resolved: ${error.message}`, { cause: error })
  }
  throw error
}

/**
 * A subscription to an event stream (`subscribeRepos`, `subscribeLabels`) that survives everything but being closed.
 *
 * Iterating gives batches of what has happened, in order: `open`, `frame`, `close`, `open`, … Frames are raw bytes; to decode
 * and to judge them is the consumer's work.
 *
 * - Backpressure: while the consumer is busy, frames collect up to `bufferBytes`, with all that they keep in memory, and then the socket is not read.
 * - The cursor is asked for at every connect, so that a reconnect goes on behind what is durable, not behind what was read.
 * - A connection without data for `idleMs` is replaced; a pause of our own does not count as silence. Pings find a dead peer
 *   on a quiet stream (`idleMs` off).
 * - What came with a piece of a frame from the socket is kept until the frame is whole. So the pieces are limited, and what may lie between them.
 * - Reconnects back off with full jitter, and start from the base again only after the stream has been healthy. After a
 *   `FutureCursor` the wait is long: only an operator can help, and asking again at once would be a hot loop.
 */
import { Backoff, sleep, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { describeError, isAbort, RefusedError } from '@sluice/runtime/errors.ts'
import { WebSocket } from 'ws'
import { mayBePublic, publicLookup } from './addresses.ts'
import { decodeFrame, frameTypeOf } from './frame.ts'
import { ItemQueue } from './item-queue.ts'

export type SubscriptionItem =
  | { type: 'open'; cursor: number | undefined }
  | { type: 'frame'; bytes: Uint8Array }
  /** `#info`: `OutdatedCursor` means that events were lost. */
  | { type: 'info'; name: string; text?: string }
  /** An error frame: `FutureCursor`, `ConsumerTooSlow`, …; a `close` follows. */
  | { type: 'error'; error: string; text?: string }
  | { type: 'close'; why: CloseReason; detail: string; retryMs: number }

/** Why a connection ended; fit for a metric label. */
export type CloseReason = (typeof CLOSE_REASONS)[number]
export const CLOSE_REASONS = [
  'refused', // the handshake failed: the host is down, or answers something else
  'idle', // no data for `idleMs`, or nothing but pings and pongs
  'no-pong', // the peer does not answer pings
  'error-frame', // it said why, and closed
  'frame-too-large', // beyond `frameBytes`, or in more pieces than that is good for
  'closed', // the peer closed, or the connection broke
] as const

export interface SubscriptionOptions {
  /** `wss://host` or `ws://host:port`. */
  host: string
  /** `com.atproto.sync.subscribeRepos`, … */
  nsid: string
  /** The last position that needs not be sent again; undefined for none (the stream then starts now). */
  cursor: () => Promise<number | undefined> | number | undefined
  signal: AbortSignal
  /** Frames waiting for the consumer, in bytes that they keep in memory, before the socket is paused. */
  bufferBytes?: number
  /** The largest frame that is taken off the socket. Larger than what is valid, so that one such frame is refused and passed. */
  frameBytes?: number
  /** Without data for so long, a connection is replaced; 0 for streams that may well be silent. */
  idleMs?: number
  pingMs?: number
  backoff?: BackoffPolicy
  /** The least wait after `FutureCursor`. */
  futureCursorMs?: number
  /** For hosts that strangers name (labelers found in DID documents): only wss to public addresses. */
  publicOnly?: boolean
}

/** Only an operator can help then. */
export const FUTURE_CURSOR_MS = 30_000

const HANDSHAKE_MS = 10_000
/** A server that sends a frame in pieces does so when its buffer is full, and these have 4 kB and more. */
const FRAGMENT_BYTES = 1024
const FRAGMENTS = 64
/** Of a frame, as the network hands them over: each is an object of its own, however little is in it. */
const CHUNK_BYTES = 64
const CHUNKS = 1024
/**
 * Of pings and pongs without a frame: days of them. 2,000 pieces of a byte, each with 64 KiB of pongs behind it, held 131 MB of a frame of 2 kB.
 */
const CONTROL_BYTES = 128 * 1024
const CONTROL_HEAD_BYTES = 2
/** What `ws` calls a frame that is too large, and one in too many pieces. */
const TOO_LARGE = new Set(['WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'WS_ERR_TOO_MANY_BUFFERED_PARTS'])

const DEFAULTS = {
  bufferBytes: 8 * 1024 * 1024,
  frameBytes: 16 * 1024 * 1024,
  idleMs: 60_000,
  pingMs: 30_000,
  backoff: { baseMs: 1_000, capMs: 30_000, healthyAfterMs: 30_000 },
  futureCursorMs: FUTURE_CURSOR_MS,
  publicOnly: false,
}

const SUBSCRIBE_REFUSALS = ['subscribe-not-public'] as const
export type SubscribeRefusal = (typeof SUBSCRIBE_REFUSALS)[number]

type Settled = Required<SubscriptionOptions>

/**
 * Subscribes until `signal` aborts or the iteration is left, which closes the socket. Ends without an error on abort.
 * @throws what `cursor` throws: whoever cannot say where to go on must not go on; RefusedError<SubscribeRefusal>
 */
export async function* subscribe(given: SubscriptionOptions): AsyncGenerator<SubscriptionItem[], void, undefined> {
  const options: Settled = { ...DEFAULTS, ...given }
  if (options.publicOnly) assertPublic(new URL(options.host))
  const backoff = new Backoff(options.backoff)
  try {
    while (!options.signal.aborted) {
      const cursor = await options.cursor()
      const connection = new Connection(options, cursor)
      let last: CloseOf | undefined
      try {
        for (let items = await connection.take(); items.length > 0; items = await connection.take()) {
          if (items.some((item) => item.type === 'frame')) backoff.healthy()
          yield items
        }
        last = connection.closed
      } finally {
        connection.end()
      }
      if (options.signal.aborted) return
      const waitMs = backoff.nextMs() + (last?.futureCursor ? options.futureCursorMs : 0)
      yield [{ type: 'close', why: last?.why ?? 'closed', detail: last?.detail ?? '', retryMs: Math.round(waitMs) }]
      await sleep(waitMs, options.signal)
    }
  } catch (error) {
    if (!isAbort(error) || !options.signal.aborted) throw error
  }
}

interface CloseOf {
  why: CloseReason
  detail: string
  futureCursor: boolean
}

/** One connection: its frames until it ends, and why it ended. */
class Connection {
  closed: CloseOf | undefined
  readonly #options: Settled
  readonly #socket: WebSocket
  readonly #queue: ItemQueue<SubscriptionItem>
  readonly #timer: NodeJS.Timeout
  readonly #onAbort = (): void => this.end()
  #lastDataAt = performance.now()
  #lastPingAt = performance.now()
  #unanswered = 0
  /** Since the last frame. */
  #controlBytes = 0
  #cause: Partial<CloseOf> = {}
  /** What the last item that waits is a view of. */
  #chunk: ArrayBufferLike | undefined

  constructor(options: Settled, cursor: number | undefined) {
    this.#options = options
    this.#socket = new WebSocket(urlOf(options, cursor), {
      handshakeTimeout: HANDSHAKE_MS,
      maxPayload: options.frameBytes,
      maxFragments: Math.max(FRAGMENTS, options.frameBytes / FRAGMENT_BYTES),
      maxBufferedChunks: Math.max(CHUNKS, options.frameBytes / CHUNK_BYTES),
      perMessageDeflate: false,
      ...(options.publicOnly && { lookup: publicLookup }),
    })
    this.#queue = new ItemQueue({
      budgetBytes: options.bufferBytes,
      pause: () => this.#socket.pause(),
      resume: () => this.#resume(),
    })
    this.#socket.on('open', () => {
      this.#lastDataAt = performance.now()
      this.#queue.push({ type: 'open', cursor }, 0)
    })
    this.#socket.on('message', (data: Buffer) => this.#receive(data))
    this.#socket.on('ping', (payload: Buffer) => this.#control(payload))
    this.#socket.on('pong', (payload: Buffer) => {
      this.#unanswered = 0
      this.#control(payload)
    })
    this.#socket.on('error', (error: Error & { code?: string }) => {
      const tooLarge = TOO_LARGE.has(error.code ?? '')
      const refused = this.#socket.readyState === WebSocket.CONNECTING || !this.#queue.hadItems
      this.#blame(tooLarge ? 'frame-too-large' : refused ? 'refused' : 'closed', describeError(error))
    })
    this.#socket.on('close', (code: number, reason: Buffer) => {
      clearInterval(this.#timer)
      this.#blame(this.#queue.hadItems ? 'closed' : 'refused', `${code} ${reason.toString()}`.trim())
      const { why = 'closed', detail = '', futureCursor = false } = this.#cause
      this.closed = { why, detail, futureCursor }
      this.#queue.end()
    })
    const checkMs = Math.min(...[options.idleMs, options.pingMs, 4_000].filter((ms) => ms > 0)) / 4
    this.#timer = setInterval(() => this.#watch(), checkMs)
    options.signal.addEventListener('abort', this.#onAbort)
    if (options.signal.aborted) this.end()
  }

  /** What has come since; waits for at least one item. Empty when the connection has ended and all was taken. */
  async take(): Promise<SubscriptionItem[]> {
    const items = await this.#queue.take()
    this.#chunk = undefined
    return items
  }

  end(): void {
    this.#options.signal.removeEventListener('abort', this.#onAbort)
    clearInterval(this.#timer)
    this.#queue.end()
    this.#socket.terminate()
  }

  #receive(bytes: Buffer): void {
    // An error frame is the last, and whom we have closed is not heard, though what came with it goes on: a host could send as many as it likes.
    if (this.#cause.why !== undefined) return
    this.#lastDataAt = performance.now()
    this.#controlBytes = 0
    const item = itemOf(bytes)
    // It keeps all that came with it from the socket, 64 KiB; what else came may be nothing that waits.
    this.#queue.push(item, bytes.buffer === this.#chunk ? 0 : bytes.buffer.byteLength)
    this.#chunk = bytes.buffer
    if (item.type !== 'error') return
    this.#blame('error-frame', item.error, item.error === 'FutureCursor')
    this.#socket.terminate()
  }

  #control(payload: Buffer): void {
    this.#controlBytes += CONTROL_HEAD_BYTES + payload.length
    if (this.#controlBytes <= CONTROL_BYTES) return
    this.#blame('idle', `more than ${CONTROL_BYTES} bytes of pings and pongs, and no frame`)
    this.#socket.terminate()
  }

  #resume(): void {
    this.#lastDataAt = performance.now()
    this.#unanswered = 0
    this.#socket.resume()
  }

  /** The first cause is the true one: what follows is its consequence. */
  #blame(why: CloseReason, detail: string, futureCursor = false): void {
    if (this.#cause.why === undefined) this.#cause = { why, detail, futureCursor }
  }

  #watch(): void {
    const now = performance.now()
    const { idleMs, pingMs } = this.#options
    if (this.#queue.isPaused || this.#socket.readyState !== WebSocket.OPEN) return
    if (idleMs > 0 && now - this.#lastDataAt > idleMs) {
      this.#blame('idle', `no data for ${idleMs} ms`)
      this.#socket.terminate()
    } else if (this.#unanswered >= 2) {
      this.#blame('no-pong', `${this.#unanswered} pings without an answer`)
      this.#socket.terminate()
    } else if (pingMs > 0 && now - this.#lastPingAt > pingMs) {
      this.#lastPingAt = now
      this.#unanswered++
      this.#socket.ping()
    }
  }
}

/** Frames stay bytes, but for the two kinds that are about the connection itself. */
function itemOf(bytes: Buffer): SubscriptionItem {
  try {
    const type = frameTypeOf(bytes)
    if (type === '#info' || type === 'error') {
      const frame = decodeFrame(bytes)
      if (frame.type === 'info' || frame.type === 'error') return frame
    }
  } catch {
    // What cannot be read is for the consumer to refuse and to count.
  }
  return { type: 'frame', bytes }
}

function assertPublic(host: URL): void {
  if (host.protocol === 'wss:' && mayBePublic(host)) return
  throw new RefusedError<SubscribeRefusal>('subscribe-not-public', host.href)
}

function urlOf({ host, nsid }: Settled, cursor: number | undefined): string {
  const url = new URL(`/xrpc/${nsid}`, host)
  if (cursor !== undefined) url.searchParams.set('cursor', String(cursor))
  return url.href
}

/**
 * A subscription to an event stream (`subscribeRepos`, `subscribeLabels`) that reconnects after every failure, until it
 * is closed.
 *
 * Iterating gives batches of items in the order in which they happened: `open`, `frame`, `close`, `open`, … Frames are
 * raw bytes; the consumer decodes and checks them.
 *
 * - Backpressure: while the consumer is busy, frames collect up to `bufferBytes`; then the socket is not read.
 *   `bufferBytes` counts all memory that the frames keep.
 * - `cursor` is called at every connect. So a reconnect continues after the last durable event, not after the last
 *   event that was read.
 * - A connection without data for `idleMs` is replaced. Time while we do not read the socket does not count as silence,
 *   nor does time while our process stands still. On a quiet stream (`idleMs` off), pings find a dead peer.
 * - A piece of a frame keeps the whole buffer in memory with which it came from the socket, until the frame is
 *   complete. So the number of pieces is limited, and so are the bytes of pings and pongs between them.
 * - Reconnects back off with full jitter. The backoff starts from its base again only after the stream has been
 *   healthy. After a `FutureCursor` the wait is long: only an operator can help, and to reconnect at once would be a
 *   hot loop.
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
  /** An `#info` frame. `OutdatedCursor` means that events were lost. */
  | { type: 'info'; name: string; text?: string }
  /** An error frame (`FutureCursor`, `ConsumerTooSlow`, …). A `close` follows. */
  | { type: 'error'; error: string; text?: string }
  | { type: 'close'; why: CloseReason; detail: string; retryMs: number }

/** Why a connection ended. Used as a metric label. */
export type CloseReason = (typeof CLOSE_REASONS)[number]
export const CLOSE_REASONS = [
  'refused', // the handshake failed: the host is down, or is no such server
  'idle', // no data for `idleMs`, or nothing but pings and pongs
  'no-pong', // the peer does not answer pings
  'error-frame', // the peer sent an error frame
  'frame-too-large', // more than `frameBytes`, or more pieces than a frame of that size needs
  'closed', // the peer closed, or the connection broke
] as const

export interface SubscriptionOptions {
  /** `wss://host` or `ws://host:port`. */
  host: string
  /** `com.atproto.sync.subscribeRepos`, … */
  nsid: string
  /** The last event that need not be sent again. Undefined: the stream starts with new events. */
  cursor: () => Promise<number | undefined> | number | undefined
  signal: AbortSignal
  /** The memory that frames waiting for the consumer may keep before the socket is paused. */
  bufferBytes?: number
  /**
   * The largest frame that is read from the socket. It is larger than any valid frame, so that a frame somewhat too
   * large can be refused by the consumer without losing the connection.
   */
  frameBytes?: number
  /** A connection without data for so long is replaced. 0: never, for streams that are often silent. */
  idleMs?: number
  pingMs?: number
  backoff?: BackoffPolicy
  /** The shortest wait after `FutureCursor`. */
  futureCursorMs?: number
  /** Only wss to public addresses: for hosts that strangers name (labelers found in DID documents). */
  publicOnly?: boolean
}

/** Long, since only an operator can help after a `FutureCursor`. */
export const FUTURE_CURSOR_MS = 30_000

const HANDSHAKE_MS = 10_000
/**
 * The least average size of a frame's fragments. A normal server fragments a frame when its buffer is full, and such
 * buffers have 4 kB or more.
 */
const FRAGMENT_BYTES = 1024
const FRAGMENTS = 64
/**
 * The least average size of the chunks in which the network delivers a frame. Each chunk is an object of its own, even
 * with one byte in it.
 */
const CHUNK_BYTES = 64
const CHUNKS = 1024
/**
 * How many bytes of pings and pongs may come without a frame: days of them. Without the limit, a frame of 2 kB in 2,000
 * pieces of one byte, each followed by 64 KiB of pongs, held 131 MB.
 */
const CONTROL_BYTES = 128 * 1024
const CONTROL_HEAD_BYTES = 2
/** The error codes of `ws` for a frame that is too large, and for one in too many pieces. */
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

type Options = Required<SubscriptionOptions>

/**
 * Subscribes until `signal` aborts or the iteration is left, which closes the socket. Ends without an error on abort.
 * @throws what `cursor` throws, since without a known position the stream must not continue;
 * RefusedError<SubscribeRefusal>
 */
export async function* subscribe(given: SubscriptionOptions): AsyncGenerator<SubscriptionItem[], void, undefined> {
  const options: Options = { ...DEFAULTS, ...given }
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

/** One connection: gives its frames until it ends, and the reason of its end. */
class Connection {
  closed: CloseOf | undefined
  readonly #options: Options
  readonly #socket: WebSocket
  readonly #queue: ItemQueue<SubscriptionItem>
  readonly #checkMs: number
  readonly #timer: NodeJS.Timeout
  readonly #onAbort = (): void => this.end()
  /**
   * How long nothing has come while we read, in steps of `checkMs`. It is no difference of two clock times: after the
   * process stood still (suspended, or starved of its core), the first check runs before the socket is read.
   */
  #silentMs = 0
  #lastPingAt = performance.now()
  #unanswered = 0
  /** Bytes of pings and pongs since the last frame. */
  #controlBytes = 0
  #cause: Partial<CloseOf> = {}
  /** The buffer of which the last waiting item is a view. */
  #chunk: ArrayBufferLike | undefined

  constructor(options: Options, cursor: number | undefined) {
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
    this.#socket.on('open', () => this.#queue.push({ type: 'open', cursor }, 0))
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
    this.#checkMs = Math.min(...[options.idleMs, options.pingMs, 4_000].filter((ms) => ms > 0)) / 4
    this.#timer = setInterval(() => this.#watch(), this.#checkMs)
    options.signal.addEventListener('abort', this.#onAbort)
    if (options.signal.aborted) this.end()
  }

  /**
   * Takes all items that wait; waits for at least one. Empty when the connection has ended and all its items were
   * taken.
   */
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
    // After an error frame, or after we closed the connection, further frames are ignored. `ws` still delivers frames
    // that came in the same buffer, and a host could send any number of these.
    if (this.#cause.why !== undefined) return
    this.#silentMs = 0
    this.#controlBytes = 0
    const item = itemOf(bytes)
    // The item keeps the whole buffer of the socket in memory, 64 KiB. That counts once, for the first waiting item of
    // the buffer.
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
    this.#unanswered = 0
    this.#socket.resume()
  }

  /** Records why the connection ended. Only the first cause counts: later ones are its consequences. */
  #blame(why: CloseReason, detail: string, futureCursor = false): void {
    if (this.#cause.why === undefined) this.#cause = { why, detail, futureCursor }
  }

  #watch(): void {
    const now = performance.now()
    const { idleMs, pingMs } = this.#options
    if (this.#queue.isPaused || this.#socket.readyState !== WebSocket.OPEN) return
    this.#silentMs += this.#checkMs
    if (idleMs > 0 && this.#silentMs > idleMs) {
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

/** Frames stay bytes. Only info and error frames are decoded, since they are about the connection itself. */
function itemOf(bytes: Buffer): SubscriptionItem {
  try {
    const type = frameTypeOf(bytes)
    if (type === '#info' || type === 'error') {
      const frame = decodeFrame(bytes)
      if (frame.type === 'info' || frame.type === 'error') return frame
    }
  } catch {
    // The consumer refuses and counts a frame that cannot be decoded.
  }
  return { type: 'frame', bytes }
}

function assertPublic(host: URL): void {
  if (host.protocol === 'wss:' && mayBePublic(host)) return
  throw new RefusedError<SubscribeRefusal>('subscribe-not-public', host.href)
}

function urlOf({ host, nsid }: Options, cursor: number | undefined): string {
  const url = new URL(`/xrpc/${nsid}`, host)
  if (cursor !== undefined) url.searchParams.set('cursor', String(cursor))
  return url.href
}

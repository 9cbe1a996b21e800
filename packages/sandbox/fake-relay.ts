/**
 * A relay that a test controls, and that can misbehave. It sends the frames of a log, in their order, over real
 * websockets, from real test repositories.
 *
 * By default it behaves as a relay does. A connection with a cursor gets the frames after the cursor; one without gets
 * the frames from now on. It sends `OutdatedCursor` and `FutureCursor`. It also is the directory (`/did:plc:…`), the
 * host and the repository list of its accounts, so that an ingester needs no other server.
 *
 * A frame without a position (garbage) has its place after the frame before it, and is sent again together with the
 * frames after that one.
 */
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import { encodeErrorFrame, encodeFrame } from '@sluice/atproto/testing/frames.ts'
import type { Made, TestRepo, Write } from '@sluice/atproto/testing/repo.ts'
import { WebSocketServer, type WebSocket } from 'ws'
import { FakeDirectory } from './fake-relay-directory.ts'

/** A frame of the log; with `seq` if it has a position. */
interface Logged {
  bytes: Buffer
  seq: number | undefined
}

interface Connection {
  socket: WebSocket
  raw: Duplex
  /** The index in the log of the next frame for this connection. */
  at: number
  /** How many frames the connection got. */
  sent: number
  /** The connection is cut after so many frames. */
  endsAfter: number
  stalled: boolean
}

export interface FakeRelayOptions {
  /** After how many frames each connection is cut, in the middle of the next frame. Default: never. */
  cutAfter?: () => number
}

/** How many bytes are written to a socket before its buffer is checked. */
const WINDOW_BYTES = 1 << 20

export class FakeRelay implements AsyncDisposable {
  readonly directory = new FakeDirectory()
  /** The cursor that each connection so far asked for. */
  readonly cursors: (number | undefined)[] = []
  /** How often a connection was cut in the middle of a frame. */
  cuts = 0
  /** Frames below this position are no longer kept. */
  oldest = 0
  /** New connections are refused. */
  refuses = false
  /** While true, nothing is sent. `release` sends again. */
  holds = false
  /** New connections get an error frame of this name and are closed. */
  error: string | undefined
  readonly #server: Server
  readonly #streams = new WebSocketServer({ noServer: true })
  readonly #options: FakeRelayOptions
  readonly #connections = new Set<Connection>()
  #log: Logged[] = []
  #seq = 0

  private constructor(options: FakeRelayOptions) {
    this.#options = options
    this.#server = createServer((request, response) => this.directory.answer(request, response))
    this.#server.on('upgrade', (request, raw, head) => {
      raw.on('error', () => {})
      if (this.refuses) {
        raw.end('HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n')
        return
      }
      const cursor = new URL(request.url ?? '/', 'http://relay').searchParams.get('cursor')
      this.#streams.handleUpgrade(request, raw, head, (socket) =>
        this.#connected(socket, raw, cursor === null ? undefined : Number(cursor)),
      )
    })
  }

  static async start(options: FakeRelayOptions = {}): Promise<FakeRelay> {
    const relay = new FakeRelay(options)
    relay.#server.listen(0, '127.0.0.1')
    await once(relay.#server, 'listening')
    relay.directory.pds = relay.url
    return relay
  }

  /** Relay, directory and host in one: `http://127.0.0.1:<port>`. */
  get url(): string {
    return `http://${this.host}`
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  /** The seq of the newest frame. */
  get seq(): number {
    return this.#seq
  }

  /** How many connections are open. */
  get connected(): number {
    return this.#connections.size
  }

  /** How many frames the log holds. */
  get frames(): number {
    return this.#log.length
  }

  /** Makes an account known, with its key. */
  register(...repos: TestRepo[]): void {
    for (const repo of repos) this.directory.repos.set(repo.did, repo)
  }

  /** Makes the repository's next commit, and sends it. */
  commit(repo: TestRepo, writes: readonly Write[]): Made {
    const made = repo.write(writes, { seq: this.#seq + 1, stepMs: this.directory.stepMs })
    this.send(made.bytes, this.#seq + 1)
    return made
  }

  /** Sends a frame at the next position; `body` gets its seq. */
  message(t: string, body: object): number {
    const seq = this.#seq + 1
    this.send(encodeFrame(t, { ...body, seq }), seq)
    return seq
  }

  /** Sends a frame unchanged. @param seq its position; undefined: it has none, and follows the frame before it */
  send(bytes: Buffer, seq?: number): void {
    this.#log.push({ bytes, seq })
    if (seq !== undefined) this.#seq = Math.max(this.#seq, seq)
    for (const connection of this.#connections) this.#pump(connection)
  }

  /** Sends what was held back. */
  release(): void {
    this.holds = false
    for (const connection of this.#connections) this.#pump(connection)
  }

  /** Cuts all connections. */
  disconnect(): void {
    for (const { socket } of this.#connections) socket.terminate()
  }

  /** The connections that are open now stay open, and get nothing more, not even pongs. */
  stall(): void {
    for (const connection of this.#connections) {
      connection.stalled = true
      connection.raw.pause()
    }
  }

  /** Removes the frames up to this position, but not those that an open connection has not read yet. */
  forget(seq: number): void {
    const wanted = Math.min(this.#after(seq), ...[...this.#connections].map(({ at }) => at))
    if (wanted === 0) return
    this.#log = this.#log.slice(wanted)
    for (const connection of this.#connections) connection.at -= wanted
  }

  /** Empties the log, as if the relay had been set up anew. */
  reset(): void {
    this.#log = []
    this.#seq = 0
    this.disconnect()
  }

  async close(): Promise<void> {
    this.disconnect()
    for (const { raw } of this.#connections) raw.destroy()
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }

  #connected(socket: WebSocket, raw: Duplex, cursor: number | undefined): void {
    this.cursors.push(cursor)
    socket.on('error', () => {})
    if (this.error !== undefined || (cursor !== undefined && cursor > this.#seq)) {
      socket.send(encodeErrorFrame(this.error ?? 'FutureCursor', 'as the relay says'))
      socket.close()
      return
    }
    let at = this.#after(cursor)
    const isOutdated = cursor !== undefined && cursor < this.oldest - 1
    if (isOutdated) {
      socket.send(encodeFrame('#info', { name: 'OutdatedCursor', message: 'as the relay says' }))
      at = Math.max(at, this.#after(this.oldest - 1))
    }
    const endsAfter = this.#options.cutAfter?.() ?? Infinity
    const connection: Connection = { socket, raw, at, sent: 0, endsAfter, stalled: false }
    this.#connections.add(connection)
    socket.on('close', () => this.#connections.delete(connection))
    raw.on('drain', () => this.#pump(connection))
    this.#pump(connection)
  }

  /**
   * The index in the log after the last frame at or below the cursor. Positions may go back in the log; the last such
   * frame counts.
   */
  #after(cursor: number | undefined): number {
    if (cursor === undefined) return this.#log.length
    let at = 0
    for (const [i, { seq }] of this.#log.entries()) if (seq !== undefined && seq <= cursor) at = i + 1
    return at
  }

  #pump(connection: Connection): void {
    const { socket, raw } = connection
    while (
      !this.holds &&
      !connection.stalled &&
      connection.at < this.#log.length &&
      socket.readyState === socket.OPEN
    ) {
      const { bytes } = this.#log[connection.at]!
      if (connection.sent >= connection.endsAfter) return this.#cut(connection, bytes)
      // The `drain` event of the raw socket continues with the rest of the log.
      if (raw.writableLength > WINDOW_BYTES) return
      socket.send(bytes)
      connection.at++
      connection.sent++
    }
  }

  /** Sends the head of a websocket frame and half of its announced bytes, then cuts the connection. */
  #cut({ raw, socket }: Connection, bytes: Buffer): void {
    this.cuts++
    const head = Buffer.from([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 0])
    head.writeBigUInt64BE(BigInt(bytes.length), 2)
    raw.write(Buffer.concat([head, bytes.subarray(0, bytes.length >> 1)]), () => socket.terminate())
  }
}

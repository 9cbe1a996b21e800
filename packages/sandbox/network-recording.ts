/**
 * The firehose of a network's PDS, recorded while it flows.
 *
 * Recorded live, because a PDS purges the events of an account when the account is deleted: a later subscription would
 * get another history.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { decodeFrame, type Frame } from '@sluice/atproto/frame.ts'
import { WebSocket } from 'ws'
import type { Network } from './network.ts'

export class NetworkRecording implements AsyncDisposable {
  /** Every frame so far, in the order of the PDS. */
  readonly frames: Frame[] = []
  readonly #network: Network
  readonly #socket: WebSocket
  #seq = 0

  private constructor(network: Network, socket: WebSocket) {
    this.#network = network
    this.#socket = socket
    socket.on('message', (data: Buffer) => {
      const frame = decodeFrame(data)
      this.frames.push(frame)
      if ('seq' in frame) this.#seq = frame.seq
    })
  }

  /** Starts with the next frame. */
  static async start(network: Network): Promise<NetworkRecording> {
    const since = (await network.pds.server.ctx.sequencer.curr()) ?? 0
    const url = `${network.pds.url.replace(/^http/, 'ws')}/xrpc/com.atproto.sync.subscribeRepos?cursor=${since}`
    const socket = new WebSocket(url)
    const recording = new NetworkRecording(network, socket)
    recording.#seq = since
    await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
    return recording
  }

  /** Resolves when everything that the PDS has sequenced so far is recorded. */
  async caughtUp(timeoutMs = 60_000): Promise<void> {
    const target = (await this.#network.pds.server.ctx.sequencer.curr()) ?? 0
    const deadline = Date.now() + timeoutMs
    while (this.#seq < target) {
      if (Date.now() > deadline) throw new Error(`the recording is at ${this.#seq} of ${target}`)
      await sleep(5)
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#socket.once('close', () => resolve()))
    this.#socket.terminate()
    return closed
  }
}

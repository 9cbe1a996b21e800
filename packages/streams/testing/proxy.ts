/** A TCP proxy in front of Redis that fails on demand, and tells how often it did. */
import { createServer, connect, type Server, type Socket } from 'node:net'
import { once } from 'node:events'

interface Pair {
  client: Socket
  server: Socket
  /** Cut as soon as the server answers. */
  doomed: boolean
}

export class FaultyProxy implements AsyncDisposable {
  readonly #server: Server
  readonly #pairs = new Set<Pair>()
  #onRequest: { text: string; left: number; half: boolean } | undefined
  #target: URL
  #silent = false
  /** Connections that were cut while a request was under way. */
  cuts = 0
  /** Chunks that were swallowed. */
  swallowed = 0

  private constructor(target: string) {
    this.#target = new URL(target)
    this.#server = createServer((client) =>
      this.#join(client, connect(Number(this.#target.port), this.#target.hostname)),
    )
  }

  static async start(target: string): Promise<FaultyProxy> {
    const proxy = new FaultyProxy(target)
    proxy.#server.listen(0, '127.0.0.1')
    await once(proxy.#server, 'listening')
    return proxy
  }

  url(database: string | number = 0): string {
    const { port } = this.#server.address() as { port: number }
    return `redis://127.0.0.1:${port}/${database}`
  }

  /**
   * The next `times` requests that contain `text` reach the server, but their answers do not come back: the connection
   * is cut instead.
   */
  loseAnswers(text: string, times = 1): void {
    this.#onRequest = { text, left: times, half: false }
  }

  /** The next request that contains `text` reaches the server by half; then the connection is cut. */
  cutInRequest(text: string): void {
    this.#onRequest = { text, left: 1, half: true }
  }

  /** New connections lead to this port; open ones stay where they are. */
  leadTo(target: string): void {
    this.#target = new URL(target)
  }

  /** Cuts every connection now. Returns how many. */
  cutAll(): number {
    const open = [...this.#pairs]
    for (const pair of open) cut(pair)
    return open.length
  }

  /** From now on every connection stays open, and nothing passes in either direction. */
  beSilent(silent: boolean): void {
    this.#silent = silent
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cutAll()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  #join(client: Socket, server: Socket): void {
    const pair: Pair = { client, server, doomed: false }
    this.#pairs.add(pair)
    client.on('data', (chunk) => this.#request(pair, chunk))
    server.on('data', (chunk) => this.#answer(pair, chunk))
    for (const socket of [client, server]) {
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#pairs.delete(pair)
        cut(pair)
      })
    }
  }

  #request(pair: Pair, chunk: Buffer): void {
    if (this.#silent) return void this.swallowed++
    const trap = this.#onRequest
    if (trap && trap.left > 0 && chunk.includes(trap.text)) {
      trap.left -= 1
      pair.doomed = true
      if (trap.half) {
        this.cuts += 1
        pair.server.write(chunk.subarray(0, chunk.length / 2), () => cut(pair))
        return
      }
    }
    pair.server.write(chunk)
  }

  #answer(pair: Pair, chunk: Buffer): void {
    if (this.#silent) return void this.swallowed++
    if (pair.doomed) {
      this.cuts += 1
      return cut(pair)
    }
    pair.client.write(chunk)
  }
}

function cut({ client, server }: Pair): void {
  client.destroy()
  server.destroy()
}

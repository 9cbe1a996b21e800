/** A proxy before a server: what that answers passes through a function, which may change it or hold it back. */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'

export interface Between extends AsyncDisposable {
  /** The server's connection string, by way of the proxy. */
  url: string
}

export type OnAnswer = (bytes: Buffer, send: (bytes: Buffer) => void) => void

/** @param target a connection string of Redis or PostgreSQL */
export async function between(target: string, onAnswer: OnAnswer): Promise<Between> {
  const sockets = new Set<Socket>()
  const { hostname, port } = new URL(target)
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket)
      socket.on('error', () => {}).on('close', () => other.destroy())
    }
    client.pipe(upstream)
    upstream.on('data', (bytes) => onAnswer(bytes, (passed) => client.write(passed)))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = Object.assign(new URL(target), { hostname: '127.0.0.1', port: (server.address() as AddressInfo).port })
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

export interface SlowServer extends Between {
  /** How many pieces of answers were held back. */
  delayed: number
}

/** A server that is far away, or busy: each piece of its answers comes so much later, in the order of the sending. */
export async function slowServer(target: string, delayMs: number): Promise<SlowServer> {
  const proxy = await between(target, (bytes, send) => {
    slow.delayed++
    setTimeout(() => send(bytes), delayMs)
  })
  const slow: SlowServer = Object.assign(proxy, { delayed: 0 })
  return slow
}

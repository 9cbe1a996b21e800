/**
 * A proxy in front of PostgreSQL that cuts the connection at a chosen statement: a network that fails at the worst
 * moment.
 */
import { connect, createServer } from 'node:net'
import type { AddressInfo, Socket } from 'node:net'
import { once } from 'node:events'

export interface CuttingProxy extends AsyncDisposable {
  /** The server's connection string, by way of the proxy. */
  url: string
  /** Connections that were cut. */
  cuts: number
  /** `before`: the statement never reaches the server. `after`: the server runs it, its answer is lost. */
  cutAt(statement: string, when: 'before' | 'after', times: number): void
  /**
   * From now on no answer comes through, and no connection ends: the server's machine is gone. Returns how many bytes
   * were held back so far.
   */
  swallow(): () => number
}

export async function cuttingProxy(target: string): Promise<CuttingProxy> {
  const { hostname, port } = new URL(target)
  const sockets = new Set<Socket>()
  let armed = { statement: '', when: 'before', times: 0 }
  let isSilent = false
  let swallowed = 0

  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname)
    let cutting = false
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket
        .on('error', () => {})
        .on('close', () => {
          sockets.delete(socket)
          client.destroy()
          upstream.destroy()
        })
    }
    client.on('data', (bytes) => {
      if (armed.times > 0 && bytes.includes(armed.statement)) {
        armed.times--
        proxy.cuts++
        cutting = true
      }
      if (cutting && armed.when === 'before') client.destroy()
      else upstream.write(bytes)
    })
    upstream.on('data', (bytes) => {
      if (cutting) client.destroy()
      else if (isSilent) swallowed += bytes.length
      else client.write(bytes)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')

  const url = new URL(target)
  url.hostname = '127.0.0.1'
  url.port = String((server.address() as AddressInfo).port)
  const proxy: CuttingProxy = {
    url: url.href,
    cuts: 0,
    cutAt(statement, when, times) {
      armed = { statement, when, times }
    },
    swallow() {
      isSilent = true
      return () => swallowed
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return proxy
}

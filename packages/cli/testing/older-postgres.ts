/**
 * A proxy in front of PostgreSQL that makes it look like another version: it replaces the version number in each answer
 * and passes on everything else.
 */
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { queryOnce } from '@sluice/sandbox/postgres.ts'

export interface OlderPostgres extends AsyncDisposable {
  /** The server's connection string, by way of the proxy. */
  url: string
  /** How often the number was replaced. */
  told: number
}

/** @param number in the form of `server_version_num`, with as many digits as the server's */
export async function olderPostgres(target: string, number: string): Promise<OlderPostgres> {
  const [real] = await queryOnce<{ number: string }>(target, `select current_setting('server_version_num') as number`)
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
    upstream.on('data', (bytes) => {
      const at = bytes.indexOf(real!.number)
      if (at >= 0) older.told++
      if (at >= 0) bytes.write(number, at)
      client.write(bytes)
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = Object.assign(new URL(target), { hostname: '127.0.0.1', port: (server.address() as AddressInfo).port })
  const older: OlderPostgres = {
    url: url.href,
    told: 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return older
}

/** Servers on loopback, controlled by a test. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { WebSocketServer, type WebSocket } from 'ws'

export type Handler = (request: IncomingMessage, response: ServerResponse) => void

export interface TestServer extends AsyncDisposable {
  /** `http://127.0.0.1:<port>` */
  url: string
  host: string
  /** The path and query of each request so far. */
  requests: string[]
}

/** An HTTP server. */
export async function httpServer(handler: Handler): Promise<TestServer> {
  const requests: string[] = []
  const server = createServer((request, response) => {
    requests.push(request.url ?? '')
    handler(request, response)
  })
  const host = await listening(server)
  return { url: `http://${host}`, host, requests, [Symbol.asyncDispose]: () => closed(server) }
}

/** Answers JSON. */
export function json(
  response: ServerResponse,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): void {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value))
}

/** Sends a byte now and then, as long as the client is connected. */
export function drip(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, headers).write('x')
  const timer = setInterval(() => response.write('x'), 10)
  response.on('close', () => clearInterval(timer))
}

export interface StreamServer extends AsyncDisposable {
  /** `ws://127.0.0.1:<port>` */
  url: string
  /** The path and query of each connection so far. */
  requests: string[]
  sockets: WebSocket[]
}

/** A websocket server: `onSocket` gets each connection, with its number from 0. */
export async function streamServer(
  onSocket: (socket: WebSocket, number: number) => void,
  options: { autoPong?: boolean; refuse?: () => boolean } = {},
): Promise<StreamServer> {
  const requests: string[] = []
  const sockets: WebSocket[] = []
  const server = createServer()
  const streams = new WebSocketServer({ noServer: true, autoPong: options.autoPong ?? true })
  server.on('upgrade', (request, socket, head) => {
    requests.push(request.url ?? '')
    if (options.refuse?.()) {
      socket.end('HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n')
      return
    }
    streams.handleUpgrade(request, socket, head, (client) => {
      sockets.push(client)
      onSocket(client, sockets.length - 1)
    })
  })
  const host = await listening(server)
  return {
    url: `ws://${host}`,
    requests,
    sockets,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.terminate()
      await closed(server)
    },
  }
}

async function listening(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function closed(server: Server): Promise<void> {
  server.closeAllConnections()
  server.close()
  await once(server, 'close')
}

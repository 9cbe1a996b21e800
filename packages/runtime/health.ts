/**
 * The HTTP side of a process, for orchestrators and Prometheus.
 *
 * | path       | answer                                                                                          |
 * |------------|-------------------------------------------------------------------------------------------------|
 * | `/health`  | 200 while the process is alive, whatever its surroundings do: restarting it would not help them |
 * | `/ready`   | 200 when it does its work, else 503, with the reasons and the lag                                |
 * | `/metrics` | Prometheus text                                                                                 |
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { describeError, FatalError } from './errors.ts'
import type { Metrics } from './metrics.ts'
import type { Readiness } from './readiness.ts'

export interface HealthOptions {
  role: string
  build: string
  metrics: Metrics
  readiness: Readiness
  /** With 0 the system chooses a free port. */
  port: number
}

interface Answer {
  status: number
  type: string
  body: string
}

export class HealthServer implements AsyncDisposable {
  readonly port: number
  readonly #server: Server

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
  }

  /**
   * Starts to answer.
   * @throws FatalError when the port cannot be used
   */
  static async listen(options: HealthOptions): Promise<HealthServer> {
    const server = createServer({ requestTimeout: 5000, keepAliveTimeout: 5000 }, (request, response) => {
      void respond(options, request, response)
    })
    // There are few scrapers. A client that opens more connections than this is none.
    server.maxConnections = 100
    try {
      server.listen(options.port)
      await once(server, 'listening')
    } catch (error) {
      const remedy = 'choose another METRICS_PORT, or 0 for a free one'
      throw new FatalError(`cannot serve health on port ${options.port} (${describeError(error)}): ${remedy}`)
    }
    return new HealthServer(server)
  }

  /** Stops answering, and cuts requests that are still open. */
  async close(): Promise<void> {
    const closed = once(this.#server, 'close')
    this.#server.close()
    this.#server.closeAllConnections()
    await closed
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close()
  }
}

async function respond(options: HealthOptions, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { status, type, body } = await answer(options, request)
  response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' })
  response.end(request.method === 'HEAD' ? undefined : body)
}

async function answer(options: HealthOptions, { method, url = '/' }: IncomingMessage): Promise<Answer> {
  const { role, build, readiness, metrics } = options
  if (method !== 'GET' && method !== 'HEAD') return json(405, { error: 'only GET and HEAD' })
  switch (url.split('?')[0]) {
    case '/health':
      return json(200, { alive: true, role, build, uptimeSeconds: Math.round(process.uptime()) })
    case '/ready': {
      const { ready, reasons, lagSeconds } = readiness
      return json(ready ? 200 : 503, { ready, reasons, lagSeconds, role, build })
    }
    case '/metrics':
      try {
        return { status: 200, type: metrics.contentType, body: await metrics.render() }
      } catch (error) {
        return json(500, { error: describeError(error) })
      }
    default:
      return json(404, { error: 'there are /health, /ready and /metrics' })
  }
}

function json(status: number, body: object): Answer {
  return { status, type: 'application/json', body: `${JSON.stringify(body)}\n` }
}

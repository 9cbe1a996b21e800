/** A host that nobody can trust: it answers every request in its own way. */
import { once } from 'node:events'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** What it does with a request. */
export type Answer = (url: URL, response: ServerResponse) => void

/** Answers that our client refuses to take, from hosts at any address. */
export const REFUSED_ANSWERS: { name: string; answer: Answer }[] = [
  { name: 'redirects without end', answer: ({ href }, response) => response.writeHead(302, { location: href }).end() },
  {
    name: 'redirects to what is no web address',
    answer: (_, response) => response.writeHead(302, { location: 'ftp://127.0.0.1/' }).end(),
  },
  { name: 'sends more than anybody wants', answer: (_, response) => response.end(' '.repeat(5_000_000)) },
]

export class Stranger implements AsyncDisposable {
  /** What it was asked so far. */
  readonly requests: URL[] = []
  readonly #server: Server

  private constructor(answer: Answer) {
    this.#server = createServer((request, response) => {
      const url = new URL(request.url ?? '/', this.url)
      this.requests.push(url)
      answer(url, response)
    })
  }

  static async start(answer: Answer): Promise<Stranger> {
    const stranger = new Stranger(answer)
    stranger.#server.listen(0, '127.0.0.1')
    await once(stranger.#server, 'listening')
    return stranger
  }

  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get url(): string {
    return `http://${this.host}`
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

/**
 * A PLC directory and the host of its accounts' handles, in one server that has its troubles: slow, rate-limited now
 * and then, away when told to be, and wrong in many ways about some accounts.
 */
import { createServer, type ServerResponse } from 'node:http'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'

/** What is wrong with an account. */
export const TROUBLES = [
  'missing',
  'error',
  'silence',
  'no-json',
  'no-handle',
  'leads-elsewhere',
  'leads-nowhere',
] as const
export type Trouble = (typeof TROUBLES)[number]

export interface DirectoryAccount {
  did: string
  handle: string
  trouble?: Trouble
}

export class TroubledDirectory implements AsyncDisposable {
  readonly #accounts: ReadonlyMap<string, DirectoryAccount>
  readonly #byHandle: ReadonlyMap<string, DirectoryAccount>
  readonly #server = createServer((request, response) => this.#answer(request.url!, response))
  /** When each DID was asked for (ms, monotonic). */
  readonly asked = new Map<string, number[]>()
  /** How often it said 429. */
  limited = 0
  /** Requests that came while it was away: they get no answer. */
  unanswered = 0
  /** While true nobody gets an answer; or the directory is away alone, and the host of the handles answers. */
  away: boolean | 'for documents' = false
  #requests = 0
  #url = ''

  constructor(accounts: readonly DirectoryAccount[]) {
    this.#accounts = new Map(accounts.map((account) => [account.did, account]))
    this.#byHandle = new Map(accounts.map((account) => [account.handle, account]))
  }

  static async start(accounts: readonly DirectoryAccount[]): Promise<TroubledDirectory> {
    const directory = new TroubledDirectory(accounts)
    directory.#server.listen(0, '127.0.0.1')
    await once(directory.#server, 'listening')
    directory.#url = `http://127.0.0.1:${(directory.#server.address() as AddressInfo).port}`
    return directory
  }

  get url(): string {
    return this.#url
  }

  #answer(path: string, response: ServerResponse): void {
    const url = new URL(path, this.#url)
    const isDid = url.pathname.startsWith('/did:')
    const did = url.pathname.slice(1)
    if (isDid) this.asked.set(did, [...(this.asked.get(did) ?? []), performance.now()])
    if (this.away === true || (this.away && isDid)) {
      this.unanswered++
      return
    }
    const turn = this.#requests++
    if (isDid && turn % 101 === 100) {
      this.limited++
      response.writeHead(429, { 'retry-after': '0' }).end()
      return
    }
    const answer = (): void => (isDid ? this.#document(did, response) : this.#handle(url, response))
    if (turn % 5 === 0) setTimeout(answer, 20)
    else answer()
  }

  #document(did: string, response: ServerResponse): void {
    const account = this.#accounts.get(did)
    switch (account?.trouble) {
      case 'silence':
        return
      case 'error':
        response.writeHead(500).end()
        return
      case 'no-json':
        response.end('<!doctype html>')
        return
      case 'missing':
        notRegistered(did, response)
        return
      default:
        if (account === undefined) notRegistered(did, response)
        else response.end(JSON.stringify(this.#documentOf(account)))
    }
  }

  #documentOf({ did, handle, trouble }: DirectoryAccount): object {
    return {
      id: did,
      alsoKnownAs: trouble === 'no-handle' ? [] : [`at://${handle.toUpperCase()}`],
      service: [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: this.#url }],
    }
  }

  #handle(url: URL, response: ServerResponse): void {
    const account = this.#byHandle.get(url.searchParams.get('handle')!)
    if (account === undefined || account.trouble === 'leads-nowhere') {
      response.writeHead(400).end('{"error":"InvalidRequest"}')
      return
    }
    const did = account.trouble === 'leads-elsewhere' ? 'did:plc:zzzzzzzzzzzzzzzzzzzzzzzz' : account.did
    response.end(JSON.stringify({ did }))
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

function notRegistered(did: string, response: ServerResponse): void {
  response.writeHead(404).end(JSON.stringify({ message: `DID not registered: ${did}` }))
}

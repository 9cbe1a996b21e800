/**
 * A network of hosts that a test controls (`fake-pds.ts`), and a directory that resolves their accounts. For behaviour
 * that a real PDS never shows. Everything in it is deterministic, except timing.
 */
import { createServer, type Server } from 'node:http'
import { once } from 'node:events'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { FakeAccount } from './fake-account.ts'
import { FakePds, type PdsManners } from './fake-pds.ts'
import { LOOPBACK } from '../loopback.ts'
import { freePort, releasePort } from '../ports.ts'

export class FakeNetwork implements AsyncDisposable {
  readonly plcUrl: string
  readonly hosts: FakePds[] = []
  readonly accounts = new Map<string, FakeAccount>()
  /** Whether the directory answers every request with 503. */
  plcIsDown = false
  /** How often the directory was asked. */
  plcAsked = 0
  readonly #port: number
  readonly #plc: Server

  private constructor(port: number) {
    this.#port = port
    this.plcUrl = `http://${LOOPBACK}:${port}`
    this.#plc = createServer((request, response) => {
      this.plcAsked++
      const did = decodeURIComponent((request.url ?? '/').slice(1))
      const account = this.accounts.get(did)
      const says = (status: number, word: string) =>
        response.writeHead(status).end(JSON.stringify({ message: `DID ${word}: ${did}` }))
      if (this.plcIsDown) response.writeHead(503).end()
      else if (account === undefined || account.document === 'missing') says(404, 'not registered')
      else if (account.document === 'tombstoned') says(410, 'not available')
      else response.setHeader('content-type', 'application/json').end(JSON.stringify(account.didDocument()))
    })
  }

  static async start(): Promise<FakeNetwork> {
    const network = new FakeNetwork(await freePort())
    network.#plc.listen(network.#port, LOOPBACK)
    await once(network.#plc, 'listening')
    return network
  }

  async addHost(manners: Partial<PdsManners> = {}): Promise<FakePds> {
    const pds = await FakePds.start(manners)
    this.hosts.push(pds)
    return pds
  }

  addAccount(repo: TestRepo, pds: FakePds): FakeAccount {
    const account = new FakeAccount(repo, pds)
    this.accounts.set(account.did, account)
    return account
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#plc, 'close')
    this.#plc.close()
    this.#plc.closeAllConnections()
    await Promise.all([closed, ...this.hosts.map((pds) => pds[Symbol.asyncDispose]())])
    releasePort(this.#port)
  }
}

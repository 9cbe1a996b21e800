/** The HTTP part of a fake relay: DID documents of its accounts, `listRepos`, `getRepoStatus`, `getRepo`. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { formatCid } from '@sluice/atproto/cid.ts'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'

export class FakeDirectory {
  /** By DID. */
  readonly repos = new Map<string, TestRepo>()
  /** Accounts that are not active, and why. */
  readonly inactive = new Map<string, string>()
  /** The path and query of each request so far. */
  readonly requests: string[] = []
  /** While true, every request fails. */
  isDown = false
  /** The time between two commits. */
  stepMs = 1_000
  /** How many repositories a page has. */
  pageRepos = 1_000
  /** The host that the DID documents name. */
  pds = ''

  /** The hosts that `listHosts` lists beside this one. Undefined: there is no `listHosts`. */
  hosts: readonly { hostname: string; status?: string }[] | undefined
  /** Accounts that have records of any collection that is asked for. */
  collectors: readonly string[] = []
  /** Documents of DIDs that have no repository. */
  readonly documents = new Map<string, object>()
  /** Requests of these paths fail once each. */
  readonly failsOnce = new Set<string>()

  /** How many requests had a path that begins with `path`. */
  asked(path: string): number {
    return this.requests.filter((request) => request.startsWith(path)).length
  }

  answer(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://relay')
    this.requests.push(`${url.pathname}${url.search}`)
    if (this.isDown || this.failsOnce.delete(url.pathname)) return json(response, 503, { error: 'InternalServerError' })
    if (url.pathname.startsWith('/did:')) return this.#document(url.pathname.slice(1), response)
    switch (url.pathname) {
      case '/xrpc/com.atproto.sync.listRepos':
        return this.#list(Number(url.searchParams.get('cursor') ?? '0'), response)
      case '/xrpc/com.atproto.sync.listReposByCollection':
        return json(response, 200, { repos: this.collectors.map((did) => ({ did })) })
      case '/xrpc/com.atproto.sync.listHosts':
        if (this.hosts !== undefined) return json(response, 200, { hosts: this.hosts })
        break
      case '/xrpc/com.atproto.sync.getRepoStatus':
        return this.#status(url.searchParams.get('did') ?? '', response)
      case '/xrpc/com.atproto.sync.getRepo':
        return this.#export(url.searchParams.get('did') ?? '', response)
    }
    json(response, 501, { error: 'MethodNotImplemented' })
  }

  #document(did: string, response: ServerResponse): void {
    const document = this.documents.get(did)
    if (document !== undefined) return json(response, 200, document)
    const repo = this.repos.get(did)
    if (repo === undefined) return json(response, 404, { message: `DID not registered: ${did}` })
    json(response, 200, {
      '@context': ['https://www.w3.org/ns/did/v1'],
      id: did,
      alsoKnownAs: [],
      verificationMethod: [
        { id: `${did}#atproto`, type: 'Multikey', controller: did, publicKeyMultibase: repo.key.multibase },
      ],
      service: [{ id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: this.pds }],
    })
  }

  #list(from: number, response: ServerResponse): void {
    const all = [...this.repos.values()].filter(({ commit }) => commit !== undefined)
    const repos = all.slice(from, from + this.pageRepos).map(({ did, rev, commit }) => ({
      did,
      head: formatCid(commit!),
      rev,
      ...this.#activity(did),
    }))
    const next = from + this.pageRepos
    json(response, 200, { repos, ...(next < all.length && { cursor: String(next) }) })
  }

  #status(did: string, response: ServerResponse): void {
    const repo = this.repos.get(did)
    if (repo === undefined) return json(response, 400, { error: 'RepoNotFound' })
    json(response, 200, { did, rev: repo.rev, ...this.#activity(did) })
  }

  #export(did: string, response: ServerResponse): void {
    const repo = this.repos.get(did)
    if (repo === undefined) return json(response, 400, { error: 'RepoNotFound' })
    response.writeHead(200, { 'content-type': 'application/vnd.ipld.car' }).end(repo.export())
  }

  #activity(did: string): { active: boolean; status?: string } {
    const status = this.inactive.get(did)
    return status === undefined ? { active: true } : { active: false, status }
  }
}

function json(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

/**
 * Access to the network, for one account at a time: its identity, its host and its repository. Identities are cached
 * for this run only.
 */
import { HttpClient } from '@sluice/atproto/http.ts'
import { MemoryIdentityCache } from '@sluice/atproto/identity-cache.ts'
import { IdentityResolver } from '@sluice/atproto/identity-resolver.ts'
import type { Identity } from '@sluice/atproto/identity.ts'
import { readRepoExport, type RepoExport } from '@sluice/atproto/repo-export.ts'
import { XrpcClient } from '@sluice/atproto/xrpc.ts'
import { CannotError } from './cli.ts'
import type { Settings } from './config.ts'

export interface Account extends Identity {
  pds: string
  signingKey: string
}

export class Network implements AsyncDisposable {
  readonly #http: HttpClient
  readonly #identities: IdentityResolver
  readonly #xrpc: XrpcClient
  readonly #signal: AbortSignal

  constructor({ plcUrl, allowPrivate }: Pick<Settings, 'plcUrl' | 'allowPrivate'>, signal: AbortSignal) {
    this.#http = new HttpClient({ allowPrivate, allowOrigins: [plcUrl] })
    this.#xrpc = new XrpcClient(this.#http)
    this.#identities = new IdentityResolver({ plcUrl, http: this.#http, cache: new MemoryIdentityCache() })
    this.#signal = signal
  }

  /** @throws CannotError when it has no document, host or key; TransientError */
  async account(did: string): Promise<Account> {
    const resolution = await this.#identities.resolve(did)
    if (resolution.status !== 'found') {
      const detail = 'detail' in resolution ? `: ${resolution.detail}` : ''
      throw new CannotError(`the identity of ${did} is ${resolution.status}${detail}`)
    }
    const { identity } = resolution
    const { pds, signingKey } = identity
    if (pds === undefined) throw new CannotError(`the document of ${did} names no PDS`)
    if (signingKey === undefined) throw new CannotError(`the document of ${did} names no signing key`)
    return { ...identity, pds, signingKey }
  }

  /**
   * The account's repository, fetched and verified as a whole. The caller disposes of it.
   * @throws RefusedError, TransientError
   */
  async repo({ did, pds, signingKey }: Account): Promise<RepoExport> {
    const response = await this.#xrpc.getRepo(pds, did, { signal: this.#signal })
    return readRepoExport(response.body, { did, signingKey }, { signal: this.#signal })
  }

  /**
   * What the account's host says of one record; undefined: there is no such record.
   * @throws RefusedError, TransientError
   */
  async record(pds: string, did: string, path: string): Promise<{ cid: string } | undefined> {
    const [collection = '', rkey = ''] = path.split('/')
    const url = new URL('/xrpc/com.atproto.repo.getRecord', pds)
    for (const [key, value] of Object.entries({ repo: did, collection, rkey })) url.searchParams.set(key, value)
    const response = await this.#http.get(url, { signal: this.#signal })
    const body = JSON.parse((await response.bytes()).toString() || '{}') as {
      cid?: string
      error?: string
      message?: string
    }
    if (response.status === 200 && typeof body.cid === 'string') return { cid: body.cid }
    if (response.status === 400 && /RecordNotFound|InvalidRequest/.test(body.error ?? '')) return undefined
    throw new CannotError(`${url.host} answers ${response.status} ${body.error ?? ''}`.trim())
  }

  async head(pds: string, did: string): Promise<{ cid: string; rev: string }> {
    return this.#xrpc.getLatestCommit(pds, did, { signal: this.#signal })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#http.close()
  }
}

/** An account of a fake network: a real signed repository, what its host says of it, and what goes wrong with it. */
import { formatCid } from '@sluice/atproto/cid.ts'
import type { TestKey } from '@sluice/atproto/testing/keys.ts'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import type { FakePds } from './fake-pds.ts'

/** What goes wrong when its repository is asked for; `times` often, then all is well. Without: always. */
export type Fault = { times?: number } & (
  | { kind: 'status'; status: number; error?: string; message?: string; headers?: Record<string, string> }
  /** To another host, which may have the account or not. */
  | { kind: 'redirect'; to: string }
  /** Silence after so many bytes, with the connection open. */
  | { kind: 'stall'; afterBytes: number }
  | { kind: 'slow'; bytesPerSecond: number }
  /** The connection breaks. */
  | { kind: 'cut'; afterBytes: number }
  /** A proper end, too early. */
  | { kind: 'truncate'; afterBytes: number }
  /** 200, and what is said to be a web page. */
  | { kind: 'page'; body: string | Buffer }
  /** Other bytes than the repository's. */
  | { kind: 'car'; bytes: (account: FakeAccount) => Buffer }
  /** The account has moved to another host by the time this one answers, with nothing. */
  | { kind: 'moves'; to: FakePds }
)

export class FakeAccount {
  readonly did: string
  readonly repo: TestRepo
  /** The key that the DID document names: not always the one that signs. */
  documentKey: TestKey
  /** Where the DID document says that it is. */
  pds: FakePds
  /** What the DID document says instead of where it is. */
  endpoint: string | undefined
  /** Absent: active. */
  status: 'takendown' | 'suspended' | 'deactivated' | undefined
  /** The directory's word: `tombstoned` 410, `missing` 404, `garbled` a document that is too large. */
  document: 'well' | 'tombstoned' | 'missing' | 'garbled' | 'no-pds' | 'no-key' = 'well'
  fault: Fault | undefined
  /** How often its fault happened. */
  fired = 0
  /** How often its repository was sent, or begun to be. */
  served = 0
  #car: { rev: string; bytes: Buffer } | undefined
  #spoilt: Buffer | undefined

  constructor(repo: TestRepo, pds: FakePds) {
    this.did = repo.did
    this.repo = repo
    this.documentKey = repo.key
    this.pds = pds
    pds.accounts.set(this.did, this)
  }

  /** The export as it is now; kept until the next commit. */
  car(): Buffer {
    if (this.#spoilt !== undefined) return this.#spoilt
    if (this.#car?.rev !== this.repo.rev) {
      const bytes = this.repo.export()
      this.#car = { rev: this.repo.rev, bytes }
    }
    return this.#car.bytes
  }

  /** From now on its repository is at another host, and not at the one before. */
  moveTo(pds: FakePds): void {
    this.pds.accounts.delete(this.did)
    this.pds = pds
    pds.accounts.set(this.did, this)
  }

  /** What the records are: path → CID as text. */
  contents(): Map<string, string> {
    return new Map([...this.repo.records].map(([path, { cid }]) => [path, formatCid(cid)]))
  }

  /** The fault of one request, which is counted. For the host. */
  takeFault(at: FakePds): Fault | undefined {
    const { fault } = this
    this.#spoilt = undefined
    if (fault === undefined || (fault.times !== undefined && this.fired >= fault.times)) return undefined
    // The host that it was sent to does serve it.
    if (fault.kind === 'redirect' && fault.to === at.url) return undefined
    this.fired++
    if (fault.kind === 'car') this.#spoilt = fault.bytes(this)
    if (fault.kind === 'moves') {
      this.moveTo(fault.to)
      this.fault = undefined
      return { kind: 'cut', afterBytes: Math.floor(this.car().length / 2) }
    }
    return fault
  }

  /** Its DID document. */
  didDocument(): Record<string, unknown> {
    const { did, document, documentKey, pds, endpoint = pds.url } = this
    if (document === 'garbled') return { id: did, alsoKnownAs: ['x'.repeat(600_000)] }
    const method = {
      id: `${did}#atproto`,
      type: 'Multikey',
      controller: did,
      publicKeyMultibase: documentKey.multibase,
    }
    const service = { id: '#atproto_pds', type: 'AtprotoPersonalDataServer', serviceEndpoint: endpoint }
    return {
      '@context': ['https://www.w3.org/ns/did/v1', 'https://w3id.org/security/multikey/v1'],
      id: did,
      alsoKnownAs: [`at://${did.slice(8, 20)}.test`],
      verificationMethod: document === 'no-key' ? [] : [method],
      service: document === 'no-pds' ? [] : [service],
    }
  }
}

/** An account of a fake network: a real signed repository, the status that its host states, and its faults. */
import { formatCid } from '@sluice/atproto/cid.ts'
import type { TestKey } from '@sluice/atproto/testing/keys.ts'
import type { TestRepo } from '@sluice/atproto/testing/repo.ts'
import type { FakePds } from './fake-pds.ts'

/** What goes wrong when the repository is requested. With `times`, only so often; without it, always. */
export type Fault = { times?: number } & (
  | { kind: 'status'; status: number; error?: string; message?: string; headers?: Record<string, string> }
  /** A redirect to another host, which may have the account or not. */
  | { kind: 'redirect'; to: string }
  /** Nothing more is sent after so many bytes, and the connection stays open. */
  | { kind: 'stall'; afterBytes: number }
  | { kind: 'slow'; bytesPerSecond: number }
  /** The connection breaks after so many bytes. */
  | { kind: 'cut'; afterBytes: number }
  /** The response ends properly after so many bytes, which is too early. */
  | { kind: 'truncate'; afterBytes: number }
  /** Status 200 with the content type of a web page. */
  | { kind: 'page'; body: string | Buffer }
  /** Other bytes than those of the repository. */
  | { kind: 'car'; bytes: (account: FakeAccount) => Buffer }
  /** The account moves to another host before this one answers, with nothing. */
  | { kind: 'moves'; to: FakePds }
)

export class FakeAccount {
  readonly did: string
  readonly repo: TestRepo
  /** The key in the DID document, which may differ from the key that signs. */
  documentKey: TestKey
  /** The host in the DID document. */
  pds: FakePds
  /** The endpoint in the DID document, instead of the host's URL. */
  endpoint: string | undefined
  /** Undefined: the account is active. */
  status: 'takendown' | 'suspended' | 'deactivated' | undefined
  /** The directory's answer: `tombstoned` gives 410, `missing` 404, `garbled` a document that is too large. */
  document: 'well' | 'tombstoned' | 'missing' | 'garbled' | 'no-pds' | 'no-key' = 'well'
  fault: Fault | undefined
  /** How often the account's fault happened. */
  fired = 0
  /** How often the repository was sent, completely or in part. */
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

  /** The export of the current state; cached until the next commit. */
  car(): Buffer {
    if (this.#spoilt !== undefined) return this.#spoilt
    if (this.#car?.rev !== this.repo.rev) {
      const bytes = this.repo.export()
      this.#car = { rev: this.repo.rev, bytes }
    }
    return this.#car.bytes
  }

  /** Moves the repository to another host; the old host no longer has it. */
  moveTo(pds: FakePds): void {
    this.pds.accounts.delete(this.did)
    this.pds = pds
    pds.accounts.set(this.did, this)
  }

  /** The records: path → CID as text. */
  contents(): Map<string, string> {
    return new Map([...this.repo.records].map(([path, { cid }]) => [path, formatCid(cid)]))
  }

  /** Takes the fault for one request, and counts it. Called by the host. */
  takeFault(at: FakePds): Fault | undefined {
    const { fault } = this
    this.#spoilt = undefined
    if (fault === undefined || (fault.times !== undefined && this.fired >= fault.times)) return undefined
    // The host to which the redirect leads serves the repository.
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

/**
 * Carries a script out on a real PDS: commits, account changes, handles, labels.
 *
 * The script's DIDs, CIDs and blobs are made up. Here they become real ones, everywhere in a record. What cannot be
 * done (a write of an account that is away, a deletion of what was never written) is left out. Other records may still
 * refer to it, as on the network.
 */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import type { JsonRecord } from '@sluice/events/stream-event.ts'
import type { PublishedLabel } from '@sluice/sandbox/labeler.ts'
import type { Network } from '@sluice/sandbox/network.ts'
import type { Account } from '@sluice/sandbox/pds.ts'
import { png } from '@sluice/sandbox/png.ts'
import type { Step, Write } from './script.ts'

interface Person extends Account {
  picture: object
  video: object
  /** Record paths that exist. */
  paths: Set<string>
  away: boolean
  renames: number
}

/** What must be done at certain moments, while nothing else happens. */
export interface TrafficListener {
  /** The account's handle or status is about to change: whoever must see it as it is must look now. */
  beforeAccountChange(did: string): Promise<void>
  /** The PDS will purge the account's events: whoever has not read them by then never will. */
  beforeDeletion(did: string): Promise<void>
  muteThread(did: string, uri: string): Promise<void>
}

const APPLY = 'com.atproto.repo.applyWrites'
const PICTURE = { bytes: png(8, 6, 0x336699), encoding: 'image/png' }
/** The head of an MP4 file: a PDS looks at no more than that. */
const VIDEO = {
  bytes: Buffer.from('000000206674797069736f6d0000020069736f6d69736f32617663316d703431', 'hex'),
  encoding: 'video/mp4',
}

async function upload({ agent }: Account, { bytes, encoding }: typeof PICTURE): Promise<object> {
  const { data } = await agent.uploadBlob(bytes, { encoding })
  return JSON.parse(JSON.stringify(data.blob)) as object
}

export class Traffic {
  readonly people: readonly Person[]
  readonly labels: PublishedLabel[] = []
  /** DIDs of accounts that were deleted. */
  readonly deleted = new Set<string>()
  commits = 0
  writes = 0
  readonly #network: Network
  readonly #byScriptDid = new Map<string, Person>()
  readonly #cids = new Map<string, string>()

  private constructor(network: Network, people: readonly Person[]) {
    this.#network = network
    this.people = people
  }

  /**
   * Creates the accounts of the script.
   * @param name a prefix of their handles that nobody else uses
   */
  static async create(network: Network, name: string, steps: readonly Step[]): Promise<Traffic> {
    const dids = [...new Set(steps.map(({ did }) => did))]
    const people: Person[] = []
    for (const number of dids.keys()) {
      const account = await network.pds.createAccount(`${name}-${number}`)
      const [picture, video] = [await upload(account, PICTURE), await upload(account, VIDEO)]
      people.push({ ...account, picture, video, paths: new Set(), away: false, renames: 0 })
    }
    const traffic = new Traffic(network, people)
    for (const [i, did] of dids.entries()) traffic.#byScriptDid.set(did, people[i]!)
    return traffic
  }

  /** The real account behind the script's `did`. */
  person(did: string): Person {
    return this.#byScriptDid.get(did)!
  }

  async run(steps: readonly Step[], listener: TrafficListener): Promise<void> {
    for (let i = 0; i < steps.length;) {
      const step = steps[i]!
      if (step.kind !== 'write') {
        await this.#act(step, listener)
        i++
        continue
      }
      const commit = [step]
      for (let next = steps[++i]; next?.kind === 'write' && next.joined; next = steps[++i]) commit.push(next)
      await this.#commit(commit)
    }
  }

  async #act(step: Exclude<Step, Write>, listener: TrafficListener): Promise<void> {
    const person = this.person(step.did)
    const { pds, labeler } = this.#network
    if (this.deleted.has(person.did)) return
    switch (step.kind) {
      case 'label': {
        const { val, negate } = step
        this.labels.push(await labeler.label({ uri: this.#real(step.uri ?? step.did), val, negate }))
        return
      }
      case 'mute thread':
        return listener.muteThread(person.did, this.#real(step.uri))
      case 'handle':
        if (person.away) return
        await listener.beforeAccountChange(person.did)
        person.handle = person.handle.replace(/(?:-v\d+)?\.test$/, `-v${++person.renames}.test`)
        await person.agent.com.atproto.identity.updateHandle({ handle: person.handle })
        return
      case 'delete account':
        await listener.beforeDeletion(person.did)
        await pds.deleteAccount(person.did)
        this.deleted.add(person.did)
        return
      case 'deactivate':
        await listener.beforeAccountChange(person.did)
        await person.agent.com.atproto.server.deactivateAccount({})
        break
      case 'activate':
        await person.agent.com.atproto.server.activateAccount()
        break
      case 'take down':
      case 'restore':
        await listener.beforeAccountChange(person.did)
        await pds.takeDown(person.did, step.kind === 'take down')
        break
    }
    person.away = step.kind === 'deactivate' || step.kind === 'take down'
  }

  async #commit(commit: readonly Write[]): Promise<void> {
    const person = this.person(commit[0]!.did)
    const writes: object[] = []
    for (const { collection, rkey, record, cid } of commit) {
      const real = record && this.#realRecord(record, person)
      // Also for a record that is not written: other records name it.
      if (real && cid !== undefined) this.#cids.set(cid, formatCid(cidOf(encodeCbor(real))))
      if (person.away || this.deleted.has(person.did)) continue
      const path = `${collection}/${rkey}`
      const exists = person.paths.has(path)
      if (!real && !exists) continue
      const action = !real ? 'delete' : exists ? 'update' : 'create'
      writes.push({ $type: `${APPLY}#${action}`, collection, rkey, ...(real && { value: real }) })
      if (real) person.paths.add(path)
      else person.paths.delete(path)
    }
    if (writes.length === 0) return
    // The PDS deletes a picture together with the last record that shows it, so it is uploaded again.
    const text = JSON.stringify(writes)
    if (text.includes(PICTURE.encoding)) await upload(person, PICTURE)
    if (text.includes(VIDEO.encoding)) await upload(person, VIDEO)
    const input = { repo: person.did, validate: false, writes }
    await person.agent.call(APPLY, {}, input, { encoding: 'application/json' })
    this.commits++
    this.writes += writes.length
  }

  #realRecord(record: JsonRecord, person: Person): JsonRecord {
    return this.#resolve(record, person) as JsonRecord
  }

  #resolve(value: unknown, person: Person): unknown {
    if (typeof value === 'string') return this.#real(value)
    if (Array.isArray(value)) return value.map((item) => this.#resolve(item, person))
    if (typeof value !== 'object' || value === null) return value
    const { $type, mimeType } = value as { $type?: string; mimeType?: string }
    if ($type === 'blob') return mimeType === VIDEO.encoding ? person.video : person.picture
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.#resolve(item, person)]))
  }

  /** Replaces a made-up CID by the real one, and made-up DIDs wherever they stand. */
  #real(text: string): string {
    const cid = this.#cids.get(text)
    if (cid !== undefined) return cid
    return text.replace(/did:plc:[a-z2-7]{24}/g, (did) => this.#byScriptDid.get(did)?.did ?? did)
  }
}

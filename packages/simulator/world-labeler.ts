/** The labeler of a simulated world: it is in the directory, signs what it says, and takes back half of it. */
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import type { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import type { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import type { Truth } from './truth.ts'

const FIRST_MS = Date.UTC(2026, 1, 1)
const DAY_MS = 86_400_000

export class WorldLabeler {
  readonly #did: string
  readonly #stream: FakeRelay
  readonly #key = testKey('simulated labeler')
  #labels = 0

  constructor(did: string, stream: FakeRelay) {
    this.#did = did
    this.#stream = stream
  }

  declare(network: FakeNetwork): void {
    const account = network.addAccount(new TestRepo(this.#did), network.hosts[0]!)
    const { did } = account
    account.didDocument = () => ({
      id: did,
      verificationMethod: [
        { id: `${did}#atproto_label`, type: 'Multikey', controller: did, publicKeyMultibase: this.#key.multibase },
      ],
      service: [{ id: '#atproto_labeler', type: 'AtprotoLabeler', serviceEndpoint: this.#stream.url }],
    })
  }

  /** Says something, and tells the truth first. @param about a post, or an account that is named as `uri` */
  label({ uri, cid: version }: { uri: string; cid?: string }, truth: Truth, random: Random): void {
    const src = this.#did
    // Some labels are of one version only.
    const cid = (random.chance(0.3) && version) || ''
    const val = random.pick(['spam', 'rude', 'porn', '!hide'])
    const key = `${src} ${uri} ${cid} ${val}`
    const neg = truth.labels.get(key)?.neg === false
    const ms = FIRST_MS + ++this.#labels * 1_000
    const cts = new Date(ms).toISOString()
    const exp = random.chance(0.2) ? new Date(ms + DAY_MS * random.below(900)).toISOString() : null
    truth.labels.set(key, { src, uri, cid, val, neg, cts, exp })
    const said = { ...(cid !== '' && { cid }), ...(neg && { neg }), ...(exp !== null && { exp }) }
    const unsigned = { ver: 1, src, uri, val, cts, ...said }
    this.#stream.message('#labels', { labels: [{ ...unsigned, sig: this.#key.sign(encodeCbor(unsigned)) }] })
  }
}

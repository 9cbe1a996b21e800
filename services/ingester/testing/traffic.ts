/**
 * A seeded mix of what relays send, good and bad, and what must become of each frame: the ledger and the events that a
 * run must end with.
 */
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { random, type Random } from '@sluice/atproto/testing/random.ts'
import { TestRepo, type CommitBody, type Write } from '@sluice/atproto/testing/repo.ts'
import { resigned, withBlocks } from '@sluice/atproto/testing/scene.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import type { Outcome } from '../outcome.ts'

/** In hundredths; the rest are good commits. */
const MIX = {
  filtered: 7,
  identity: 4,
  garbage: 4,
  forged: 3,
  repeated: 4,
  novelty: 2,
  skipped: 3,
  tooBig: 2,
  badPath: 3,
} as const

interface Account {
  repo: TestRepo
  last: CommitBody | undefined
  /** What was sent last was not taken: the next commit does not follow. */
  isBroken: boolean
}

export class Traffic {
  /** How many frames must end how. */
  readonly ledger: Record<string, number> = {}
  /** By DID: what must be appended, in order. */
  readonly events = new Map<string, string[]>()
  readonly #relay: FakeRelay
  readonly #draw: Random
  readonly #accounts: Account[]
  #number = 0

  constructor(relay: FakeRelay, seed: string, accounts: number) {
    this.#relay = relay
    this.#draw = random(seed)
    this.#accounts = Array.from({ length: accounts }, (_, i) => {
      const repo = new TestRepo(testDid(`${seed} ${i}`))
      relay.register(repo)
      return { repo, last: undefined, isBroken: false }
    })
    for (const account of this.#accounts) this.#good(account)
  }

  /** Sends one frame, or skips one. */
  next(): void {
    const account = this.#draw.pick(this.#accounts)
    let dice = this.#draw.below(100)
    for (const [kind, share] of Object.entries(MIX)) {
      if (dice < share) return this.#act(kind as keyof typeof MIX, account)
      dice -= share
    }
    this.#good(account)
  }

  #act(kind: keyof typeof MIX, account: Account): void {
    switch (kind) {
      case 'filtered':
        return this.#commit(account, [this.#write('com.example.note')], 'filtered')
      case 'badPath':
        return this.#commit(account, [this.#write('no-nsid')], 'refused:op-bad-path')
      case 'identity':
        this.#relay.message('#identity', { did: account.repo.did, time: '2026-01-01T00:00:00.000Z' })
        return this.#ended('appended')
      case 'garbage':
        this.#relay.send(Buffer.from('no frame at all'))
        return this.#ended('refused:frame-bad-header')
      case 'novelty':
        this.#relay.send(encodeFrame('#novelty', { did: account.repo.did }))
        return this.#ended('unknown-type')
      case 'repeated':
        this.#relay.message('#commit', account.last!)
        return this.#ended('duplicate')
      case 'forged':
        return this.#forged(account)
      case 'tooBig':
        return this.#tooBig(account)
      case 'skipped':
        account.repo.write([this.#write('app.bsky.feed.post')])
        account.isBroken = true
    }
  }

  #good(account: Account): void {
    const writes = Array.from({ length: 1 + this.#draw.below(3) }, () => this.#write('app.bsky.feed.post'))
    for (const { path } of writes) this.#list(account).push(path)
    this.#commit(account, writes, 'appended')
  }

  #commit(account: Account, writes: Write[], outcome: Outcome): void {
    const { body } = account.repo.write(writes)
    this.#relay.message('#commit', body)
    this.#ended(account.isBroken && outcome !== 'appended' ? 'resync' : outcome)
    Object.assign(account, { last: body, isBroken: false })
  }

  #forged(account: Account): void {
    const { repo } = account
    const made = repo.write([this.#write('app.bsky.feed.post')])
    const body = resigned({ repo, made, state: { rev: '', data: repo.data } }, {}, testKey('somebody else'))
    this.#relay.message('#commit', body)
    account.isBroken = true
    this.#ended('refused:bad-signature')
  }

  #tooBig(account: Account): void {
    const { repo } = account
    const made = repo.write([this.#write('app.bsky.feed.post')])
    const small = withBlocks({ repo, made, state: { rev: '', data: repo.data } }, (blocks) => {
      for (const cid of blocks.keys()) if (cid !== repo.commit) blocks.delete(cid)
    })
    const body = { ...small, ops: [], tooBig: true }
    this.#relay.message('#commit', body)
    this.#ended('resync')
    Object.assign(account, { last: body, isBroken: false })
  }

  #write(collection: string): Write {
    const number = String(this.#number++)
    const record = { $type: collection, text: number, createdAt: '2026-01-01T00:00:00.000Z' }
    return { path: `${collection}/r${number}`, record }
  }

  #list({ repo }: Account): string[] {
    const list = this.events.get(repo.did) ?? []
    this.events.set(repo.did, list)
    return list
  }

  #ended(outcome: Outcome): void {
    this.ledger[outcome] = (this.ledger[outcome] ?? 0) + 1
  }
}

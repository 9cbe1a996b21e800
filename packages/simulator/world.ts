/**
 * A small world in this process: accounts with real signed repositories on PDSes, a directory with their keys, relays
 * and a labeler, and what people do in it. The same seed does the same, but for the times of account events.
 *
 * What happens is told to `truth` first, then to the network. Some commits never leave their host: the relays do not
 * send them, and the chain breaks there. `finish` makes up for them, so that in the end the index can know everything.
 */
import { formatCid } from '@sluice/atproto/cid.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo, type Made, type Write } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { uriOf, type JsonRecord, type RecordEvent } from '@sluice/events/stream-event.ts'
import { tidMicros } from '@sluice/events/tid.ts'
import { FakeRelay } from '@sluice/sandbox/fake-relay.ts'
import { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import type { FakePds } from '@sluice/sandbox/testing/fake-pds.ts'
import { People } from './people.ts'
import { Truth } from './truth.ts'
import { WorldClock } from './world-clock.ts'
import { WorldLabeler } from './world-labeler.ts'

export interface WorldOptions {
  seed: number
  accounts?: number
  /** Accounts with so many records that their export is several chunks. */
  large?: number
  hosts?: number
  relays?: number
  /** In hundredths of the actions; 0: nothing but commits. */
  strange?: number
  /** Record operations in a commit, at most. */
  ops?: number
  /** Records that an account has; whoever has so many deletes first. Default: no limit. */
  keeps?: number
  /** Is told of each commit, whether or not a relay sends it. */
  onCommit?: (events: readonly RecordEvent[]) => void
}

const LARGE_RECORDS = 1_300
/** Where the time of a repository begins. */
const FIRST_MS = Date.UTC(2026, 0, 1)
const DOINGS = { unsent: 2, sync: 2, status: 2, deleted: 0.3, identity: 2, label: 12 } as const
type Doing = keyof typeof DOINGS | 'commit'
const STATUSES = ['deactivated', 'takendown', 'suspended'] as const
/** By how much the clock of each host is wrong, in turn. */
const SKEWS_MS = [0, -180_000, 90_000, -86_400_000]

export class World implements AsyncDisposable {
  readonly seed: number
  readonly truth = new Truth()
  readonly network: FakeNetwork
  readonly relays: FakeRelay[]
  readonly labeler: FakeRelay
  readonly accounts: FakeAccount[] = []
  readonly large: FakeAccount[] = []
  /** What was done, and how often. */
  readonly done: Record<string, number> = {}
  /** Record operations so far, those before the beginning included. */
  operations = 0
  readonly #random: Random
  readonly #clock = new WorldClock()
  readonly #people: People
  readonly #strange: number
  readonly #ops: number
  readonly #onCommit: WorldOptions['onCommit']
  readonly #labels: WorldLabeler
  /** Whose last commit no relay has sent. */
  readonly #unsent = new Set<FakeAccount>()
  #lastMs = 0

  private constructor(
    network: FakeNetwork,
    relays: FakeRelay[],
    labeler: FakeRelay,
    { seed, strange = 21, ops = 4, keeps, onCommit }: WorldOptions,
  ) {
    this.seed = seed
    this.network = network
    this.relays = relays
    this.labeler = labeler
    this.#strange = strange
    this.#ops = ops
    this.#onCommit = onCommit
    this.#random = new Random(seed)
    this.#people = new People({ random: this.#random, truth: this.truth, clock: this.#clock, keeps })
    this.#labels = new WorldLabeler(testDid(`labeler ${seed}`), labeler)
  }

  static async start(options: WorldOptions): Promise<World> {
    const { accounts = 40, large = 2, hosts = 4, relays = 2 } = options
    const network = await FakeNetwork.start()
    const started = await Promise.all(Array.from({ length: relays + 1 }, () => FakeRelay.start()))
    const world = new World(network, started.slice(1), started[0]!, options)
    for (let i = 0; i < hosts; i++) await network.addHost()
    world.#labels.declare(network)
    for (let i = 0; i < accounts + large; i++) world.#addAccount(i, i < large ? LARGE_RECORDS : 5)
    // About each other.
    for (let round = 0; round < 2; round++) for (const account of world.accounts) world.#write(account, 5)
    return world
  }

  /** One thing that happens. */
  next(): void {
    const doing = this.#draw()
    const active = this.accounts.filter(
      ({ status, did }) => status === undefined && this.truth.statuses.get(did) === undefined,
    )
    const account = this.#random.pick(active)
    this.#act(doing, account)
    this.done[doing] = (this.done[doing] ?? 0) + 1
  }

  /** Lets its relays send a `#sync` behind a commit that they did not send: its repository has to be fetched. */
  resync(account: FakeAccount): void {
    this.#write(account)
    for (const relay of this.relays) relay.send(account.repo.sync({ seq: relay.seq + 1 }).bytes, relay.seq + 1)
    this.#unsent.delete(account)
  }

  delete(account: FakeAccount): void {
    const { did, pds } = account
    this.truth.removeAccount(did, this.#clock.next())
    this.#people.forget(did)
    this.accounts.splice(this.accounts.indexOf(account), 1)
    account.document = 'tombstoned'
    pds.accounts.delete(did)
    for (const { directory } of this.relays) {
      directory.repos.delete(did)
      directory.inactive.set(did, 'deleted')
    }
    this.#tell('#account', { did, active: false, status: 'deleted', time: this.#now(pds) })
  }

  /** Everybody comes back, and what is missing from the relays' streams is said at last. */
  finish(): void {
    for (const account of this.accounts) if (account.status !== undefined) this.#setStatus(account, undefined)
    for (const account of this.#unsent) if (this.accounts.includes(account)) this.#commit(account)
    this.#unsent.clear()
    this.#label()
    this.#end()
  }

  /** After `finish`, when the index knows all: some go away, and their records stay. */
  leave(): void {
    for (const [i, status] of STATUSES.entries()) this.#setStatus(this.accounts.at(-1 - i)!, status)
    this.#end()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.relays, this.labeler].map((relay) => relay.close()))
    await this.network[Symbol.asyncDispose]()
  }

  #draw(): Doing {
    if (this.#random.below(100) >= this.#strange) return 'commit'
    return this.#random.weighted(DOINGS)
  }

  #act(doing: Doing, account: FakeAccount): void {
    switch (doing) {
      case 'commit':
        return this.#commit(account)
      case 'unsent':
        this.#write(account)
        this.#unsent.add(account)
        return
      case 'sync':
        return this.resync(account)
      case 'status':
        return this.#changeStatus(account)
      case 'deleted':
        if (this.accounts.length > 10 && !this.large.includes(account)) this.delete(account)
        return
      case 'identity':
        return this.#tell('#identity', { did: account.did, time: this.#now() })
      case 'label':
        return this.#label()
      default:
        doing satisfies never
    }
  }

  #addAccount(number: number, records: number): void {
    // Signing keys are many on the real network; the directory is asked for each account all the same.
    const repo = new TestRepo(testDid(`simulated ${this.seed} ${number}`), { key: testKey(`simulated ${number % 20}`) })
    const account = this.network.addAccount(repo, this.#random.pick(this.network.hosts))
    this.accounts.push(account)
    if (records >= LARGE_RECORDS) this.large.push(account)
    this.truth.statuses.set(repo.did, undefined)
    this.#people.meet(repo.did)
    for (const relay of this.relays) relay.register(repo)
    this.#write(account, records)
  }

  #commit(account: FakeAccount): void {
    const { body } = this.#write(account)
    this.#tell('#commit', body)
    this.#unsent.delete(account)
  }

  #write(
    account: FakeAccount,
    count = this.#random.chance(0.7 / this.#ops) ? 1 : 1 + this.#random.below(this.#ops),
  ): Made {
    const { did, repo } = account
    const writes = new Map<string, Write>()
    const begun = this.#clock.next()
    while (writes.size < count) {
      const write = this.#people.write(did, repo.records)
      writes.set(write.path, write)
    }
    const at = this.#clock.next()
    const made = repo.write([...writes.values()], { stepMs: at - lastMs(repo) })
    this.truth.heads.set(did, { commit: formatCid(repo.commit!), rev: repo.rev })
    const events = eventsOf(made, writes)
    for (const event of events) this.#happens(event, { begun, at })
    this.#onCommit?.(events)
    return made
  }

  /** Tells the truth, and the people. */
  #happens(event: RecordEvent, { begun, at }: { begun: number; at: number }): void {
    const uri = uriOf(event)
    this.operations++
    if (event.type === 'delete') return this.truth.remove(uri, at)
    const { did, collection, cid, record } = event
    this.truth.write(uri, { did, collection, cid, record, begun, at })
    this.#people.written(uri, event)
  }

  /** Away, or back. */
  #changeStatus(account: FakeAccount): void {
    const away = this.accounts.filter(({ status }) => status !== undefined)
    const back = away.length > 0 && this.#random.chance(0.6) ? this.#random.pick(away) : undefined
    this.#setStatus(back ?? account, back ? undefined : this.#random.pick(STATUSES))
  }

  #setStatus(account: FakeAccount, status: FakeAccount['status']): void {
    const { did, pds } = account
    account.status = status
    this.truth.statuses.set(did, status)
    for (const { directory } of this.relays) {
      if (status === undefined) directory.inactive.delete(did)
      else directory.inactive.set(did, status)
    }
    const active = status === undefined
    this.#tell('#account', { did, active, ...(status !== undefined && { status }), time: this.#now(pds) })
  }

  /** A position behind everything. */
  #end(): void {
    this.#tell('#identity', { did: this.accounts[0]!.did, time: this.#now() })
  }

  #label(): void {
    this.#labels.label(this.#people.subject() ?? { uri: this.accounts[0]!.did }, this.truth, this.#random)
  }

  #tell(t: string, body: object): void {
    for (const relay of this.relays) relay.message(t, body)
  }

  /** Later than the time before, by the clock of one host. @param host default: one whose clock is right */
  #now(host?: FakePds): string {
    this.#lastMs = Math.max(Date.now(), this.#lastMs + 1)
    const skewMs = host ? SKEWS_MS[this.network.hosts.indexOf(host) % SKEWS_MS.length]! : 0
    return new Date(this.#lastMs + skewMs).toISOString()
  }
}

/** The time of the last commit; of a new repository that of its making. */
function lastMs({ rev }: TestRepo): number {
  return rev === '' ? FIRST_MS : tidMicros(rev) / 1_000
}

/** What a commit says, as the indexer would be told of it. */
function eventsOf({ body }: Made, writes: ReadonlyMap<string, Write>): RecordEvent[] {
  const { seq, time, repo: did, commit, rev } = body
  return body.ops.map(({ action, path, cid }): RecordEvent => {
    const [collection, rkey] = path.split('/') as [string, string]
    const common = { seq, time, did, commit: commit.$link, rev, collection, rkey }
    if (action === 'delete') return { type: 'delete', ...common }
    const record = writes.get(path)!.record as JsonRecord
    return { type: action as 'create' | 'update', ...common, cid: cid!.$link, record }
  })
}

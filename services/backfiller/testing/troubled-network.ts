/**
 * A network in which everything goes wrong that can, and the outcome that each repository in it must have. The seed
 * decides which trouble each repository gets.
 */
import { testKey, type TestKey } from '@sluice/atproto/testing/keys.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount, Fault } from '@sluice/sandbox/testing/fake-account.ts'
import type { FakeNetwork } from '@sluice/sandbox/testing/fake-network.ts'
import type { FakePds, PdsManners } from '@sluice/sandbox/testing/fake-pds.ts'
import { blockBoundaries, SPOILT_EXPORTS, type SpoiltExport } from '@sluice/sandbox/testing/spoilt-exports.ts'
import { records } from './records.ts'

export type Expected =
  | { kind: 'exported' }
  | { kind: 'account'; status: string }
  | { kind: 'dead'; reason: string }
  /** Tried again for ever. The next try is not before `leastMs` from now. */
  | { kind: 'later'; failure: string; leastMs?: number }

export interface Expectation {
  account: FakeAccount
  outcome: Expected
  /** The name of what goes wrong with the repository, for messages. */
  trouble: string
  /** The rev in the entry that lists the repository. */
  listed: string
  /** How often, at least, the account's fault must have happened by the end. */
  fires: number
}

/** Kinds of hosts by their behaviour, and how many of 300 hosts are of each kind. */
const HOST_KINDS: [count: number, manners: Partial<PdsManners>, kind: 'well' | 'dead' | 'stopped'][] = [
  [190, {}, 'well'],
  [30, { latencyMs: 40 }, 'well'],
  [20, { latencyMs: 300, bytesPerSecond: 400_000 }, 'well'],
  [25, { requests: 12, windowMs: 2_000, tells: 'ratelimit' }, 'well'],
  [15, { requests: 12, windowMs: 2_000, tells: 'retry-after' }, 'well'],
  [8, { mood: 'cuts' }, 'dead'],
  [6, {}, 'stopped'],
  [6, { mood: 'hangs' }, 'dead'],
]

/**
 * Makes the trouble of one account, and returns what differs in its expectation. `living`: hosts that answer, for
 * accounts that are elsewhere or move.
 */
type Trouble = (
  account: FakeAccount,
  living: readonly FakePds[],
  random: Random,
) => Partial<Omit<Expectation, 'account'>>

const faulty =
  (fault: Fault, outcome: Expected = { kind: 'exported' }): Trouble =>
  (account) => {
    account.fault = fault
    return { outcome, fires: fault.times ?? 1 }
  }

const cutAt =
  (kind: 'cut' | 'truncate' | 'stall', times: number): Trouble =>
  (account, _, random) => {
    const afterBytes = random.below(account.car().length)
    return faulty({ kind, afterBytes, times })(account, _, random)
  }

const TROUBLES: Record<string, Trouble> = {
  'server error': faulty({ kind: 'status', status: 500, error: 'InternalServerError', times: 2 }),
  'bad gateway page': faulty({ kind: 'status', status: 502, times: 3 }),
  // More often than a repository is tried that is broken by itself.
  'a web page': faulty({ kind: 'page', body: `<!doctype html>${' '.repeat(2_000)}`, times: 6 }),
  'always a short web page': faulty({ kind: 'page', body: '<html>' }, { kind: 'later', failure: 'unavailable' }),
  'said to be a web page': (account, living, random) =>
    faulty({ kind: 'page', body: account.car() })(account, living, random),
  'always down': faulty({ kind: 'status', status: 503 }, { kind: 'later', failure: 'unavailable' }),
  'disabled for new repositories': faulty(
    { kind: 'status', status: 501, error: 'MethodNotImplemented', message: 'disabled for 12 hours' },
    { kind: 'later', failure: 'disabled', leastMs: 12 * 3_600_000 - 600_000 },
  ),
  'refuses for ever': faulty(
    { kind: 'status', status: 403, error: 'Forbidden' },
    { kind: 'dead', reason: 'unauthorized' },
  ),
  // More often than a refusal is tried again.
  "a proxy's 404": faulty({ kind: 'status', status: 404, times: 6 }),
  'always the page of a CDN': faulty({ kind: 'status', status: 403 }, { kind: 'dead', reason: 'not-xrpc' }),
  // More often than any failure of the repository's own is tried again.
  'too many requests': faulty({
    kind: 'status',
    status: 429,
    error: 'RateLimitExceeded',
    headers: { 'retry-after': '1' },
    times: 6,
  }),
  'cut off': cutAt('cut', 2),
  stalls: cutAt('stall', 1),
  'ends early': cutAt('truncate', 2),
  'too slow': faulty({ kind: 'slow', bytesPerSecond: 200, times: 1 }),
  'ends early on a block boundary': (account, living, random) => {
    const afterBytes = random.pick(blockBoundaries(account.repo))
    return faulty({ kind: 'truncate', afterBytes, times: 1 })(account, living, random)
  },
  'always ends early on a block boundary': (account, living, random) => {
    const boundaries = blockBoundaries(account.repo)
    const at = 1 + random.below(boundaries.length - 1)
    const outcome: Expected = { kind: 'dead', reason: 'mst-incomplete' }
    return faulty({ kind: 'truncate', afterBytes: boundaries[at]! }, outcome)(account, living, random)
  },
  redirected: (account, living, random) => {
    const holder = account.pds
    const front = random.pick(living.filter((host) => host !== holder))
    // The account's document names a host that redirects every request to the true one.
    front.accounts.set(account.did, account)
    account.pds = front
    account.fault = { kind: 'redirect', to: holder.url }
    return { fires: 1 }
  },
  'redirected for ever': (account) => {
    account.fault = { kind: 'redirect', to: account.pds.url.replace('127.0.0.1', 'localhost') }
    return { outcome: { kind: 'dead', reason: 'http-too-many-redirects' }, fires: 3 }
  },
  'moves meanwhile': (account, living, random) => {
    account.fault = { kind: 'moves', to: random.pick(living.filter((host) => host !== account.pds)) }
    return { fires: 1 }
  },
  'new key meanwhile': (account) => {
    account.fault = { kind: 'car', bytes: rotateKey, times: 1 }
    return { fires: 1 }
  },
  'older than listed, once': (account) => {
    const old = account.car()
    account.repo.write([
      {
        path: 'app.bsky.feed.post/3kzzzzzzzzzz2',
        record: { $type: 'app.bsky.feed.post', text: 'later', createdAt: '2026-01-01T00:00:00.000Z' },
      },
    ])
    account.fault = { kind: 'car', bytes: () => old, times: 1 }
    return { fires: 1 }
  },
  'older than listed': (account) => {
    const old = account.car()
    account.repo.write([])
    account.fault = { kind: 'car', bytes: () => old }
    return { outcome: { kind: 'dead', reason: 'export-stale' }, fires: 5 }
  },
  'not found': (account) => {
    account.pds.accounts.delete(account.did)
    return { outcome: { kind: 'account', status: 'deleted' } }
  },
  'not found, though active': faulty(
    { kind: 'status', status: 400, error: 'RepoNotFound' },
    { kind: 'dead', reason: 'not-found-unconfirmed' },
  ),
  'taken down': (account) => ((account.status = 'takendown'), { outcome: { kind: 'account', status: 'takendown' } }),
  suspended: (account) => ((account.status = 'suspended'), { outcome: { kind: 'account', status: 'suspended' } }),
  deactivated: (account) => ((account.status = 'deactivated'), { outcome: { kind: 'account', status: 'deactivated' } }),
  tombstoned: (account) => ((account.document = 'tombstoned'), { outcome: { kind: 'account', status: 'deleted' } }),
  'no identity': (account) => (
    (account.document = 'missing'),
    { outcome: { kind: 'dead', reason: 'identity-missing' } }
  ),
  'garbled identity': (account) => (
    (account.document = 'garbled'),
    { outcome: { kind: 'dead', reason: 'identity-invalid' } }
  ),
  'no host': (account) => ((account.document = 'no-pds'), { outcome: { kind: 'dead', reason: 'identity-no-pds' } }),
  'no key': (account) => ((account.document = 'no-key'), { outcome: { kind: 'dead', reason: 'identity-no-key' } }),
  ...Object.fromEntries(
    Object.entries(SPOILT_EXPORTS).flatMap(([name, { reason }]) => [
      [name, spoilt(name as SpoiltExport, { kind: 'dead', reason })],
      [`${name}, once`, spoilt(name as SpoiltExport, { kind: 'exported' }, 1)],
    ]),
  ),
}

/** Fills the network. The returned map is in the order in which the repositories are to be queued. */
export async function populate(
  network: FakeNetwork,
  random: Random,
  { hosts, repos }: { hosts: number; repos: number },
) {
  const stopped = new Set<FakePds>()
  for (const [count, manners, kind] of HOST_KINDS) {
    for (let i = 0; i < Math.ceil((count * hosts) / 300); i++) {
      const host = await network.addHost(manners)
      if (kind === 'stopped') stopped.add(host)
    }
  }
  const keys = Array.from({ length: 40 }, (_, i) => testKey(`network ${i}`))
  const wellHosts = network.hosts.filter((host) => isWell(host) && !stopped.has(host))
  const expectations = new Map<string, Expectation>()
  const add = (size: number, pds: FakePds, trouble: string, key: TestKey): void => {
    const repo = new TestRepo(testDid(`${random.seed} ${expectations.size}`), { key })
    repo.write(records(random, size))
    const account = network.addAccount(repo, pds)
    const told = TROUBLES[trouble]?.(account, wellHosts, random) ?? {}
    expectations.set(account.did, {
      account,
      trouble,
      outcome: { kind: 'exported' },
      listed: repo.rev,
      fires: 0,
      ...told,
    })
  }
  const troubles = Object.keys(TROUBLES)
  const troubled = Math.floor(repos / 10)
  for (let i = 0; i < repos; i++) {
    const isTroubled = i < troubled
    const size = isTroubled ? 12 + random.below(40) : sizeOf((i - troubled) / (repos - troubled), random)
    const pds = random.pick(isTroubled ? wellHosts : network.hosts)
    add(size, pds, isTroubled ? troubles[i % troubles.length]! : 'none', random.pick(keys))
  }
  for (const expectation of expectations.values()) {
    const { pds } = expectation.account
    const isDead = pds.manners.mood !== 'well' || stopped.has(pds)
    if (isDead) Object.assign(expectation, { outcome: { kind: 'later', failure: 'unavailable' }, trouble: 'dead host' })
  }
  for (const host of stopped) await host.stop()
  return new Map(random.shuffled([...expectations]))
}

/**
 * How many records a repository has. Many repositories are small, some have thousands of records, a few are huge, and
 * some are empty. `part`: the position of the repository among all, 0 to 1.
 */
function sizeOf(part: number, random: Random): number {
  if (part < 0.001) return 20_000
  if (part < 0.01) return 1_000 + random.below(1_500)
  if (random.chance(0.05)) return 0
  return random.chance(0.7) ? random.below(8) : random.below(120)
}

function isWell({ manners }: FakePds): boolean {
  return manners.mood === 'well'
}

function spoilt(name: SpoiltExport, outcome: Expected, times?: number): Trouble {
  return (account) => {
    const bytes = ({ repo }: FakeAccount): Buffer => SPOILT_EXPORTS[name].make(repo)
    account.fault = { kind: 'car', bytes, ...(times !== undefined && { times }) }
    return { outcome, fires: times ?? 3 }
  }
}

/**
 * The account changes its signing key, also in its document, while its repository is fetched. Returns the new export.
 */
function rotateKey(account: FakeAccount): Buffer {
  account.repo.key = testKey(`new ${account.did}`)
  account.documentKey = account.repo.key
  account.repo.write([])
  return account.repo.export()
}

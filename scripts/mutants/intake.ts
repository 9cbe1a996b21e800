/** Faults of what comes in: verification (packages/atproto), the ingester and the backfiller. */
import { killersIn, type Mutant } from './mutant.ts'

const atproto = killersIn('packages/atproto')
const ingester = killersIn('services/ingester')
const backfiller = killersIn('services/backfiller')

const verification: readonly Mutant[] = [
  {
    name: 'signatures are not looked at',
    file: 'packages/atproto/commit.ts',
    find: "if (!isSignedBy(commit, key)) throw refuse('bad-signature', `not by ${key}`)",
    replace: '',
    killedBy: atproto('commit-refusals'),
  },
  {
    name: 'high S passes',
    file: 'packages/atproto/signature.ts',
    find: 'if (difference !== 0) return difference < 0',
    replace: 'if (difference !== 0) return difference < 256',
    killedBy: atproto('signature'),
  },
  {
    name: 'the ops need not lead from the tree before to the tree after',
    file: 'packages/atproto/commit.ts',
    find: 'if (before !== (frame.prevData ?? EMPTY_TREE))',
    replace: 'if (before === undefined)',
    killedBy: atproto('commit-refusals'),
  },
  {
    name: 'envelope and commit may be of two revs',
    file: 'packages/atproto/commit.ts',
    find: 'if (commit.rev !== envelope.rev)',
    replace: "if (commit.rev === '')",
    killedBy: atproto('commit-refusals'),
  },
  {
    name: 'a rev may be of tomorrow',
    file: 'packages/atproto/commit.ts',
    find: 'if (tidMicros(rev) / 1000 > nowMs + FUTURE_MS)',
    replace: 'if (tidMicros(rev) / 1000 > nowMs + 1000 * FUTURE_MS)',
    killedBy: atproto('commit-refusals'),
  },
  {
    name: 'blocks need not hash to their CIDs',
    file: 'packages/atproto/car.ts',
    find: "if (!hashesTo(block, bytes, section.end)) throw refuseCar('car-wrong-hash', `block ${count}`)",
    replace: '',
    killedBy: atproto('car'),
  },
  {
    name: 'a commit of another `since` follows',
    file: 'packages/atproto/chain.ts',
    find: "if (links.since !== state.rev) return 'since'",
    replace: '',
    killedBy: atproto('commit'),
  },
  {
    name: 'a commit of another tree follows',
    file: 'packages/atproto/chain.ts',
    find: 'links.prevData !== null && !links.prevData.startsWith(state.data)',
    replace: 'false',
    killedBy: atproto('commit'),
  },
  {
    name: 'a #sync of another tree at the same rev is a duplicate',
    file: 'packages/atproto/chain.ts',
    find: 'if (next.rev === state.rev && !next.data.startsWith(state.data))',
    replace: 'if (next.rev > state.rev)',
    killedBy: atproto('chain'),
  },
  {
    name: 'an export that lacks a node is whole',
    file: 'packages/atproto/mst-walk.ts',
    find: "      throw refuseMst('mst-incomplete', `a node after ${this.key || 'the start'} is not among the blocks`)",
    replace: '      return',
    killedBy: atproto('repo-export', 'without any one of its blocks'),
  },
  {
    name: 'an export that lacks a record is whole',
    file: 'packages/atproto/mst-walk.ts',
    find: "if (this.leaf === -1) throw refuseMst('mst-incomplete', `the record ${key} is not among the blocks`)",
    replace: '',
    killedBy: atproto('repo-export', 'without any one of its blocks'),
  },
  {
    name: 'an export may be signed by anybody',
    file: 'packages/atproto/repo-export.ts',
    find: 'if (!isSignedBy(commit, expected.signingKey))',
    replace: "if (expected.signingKey === '')",
    killedBy: atproto('repo-export', 'is refused by name'),
  },
  {
    name: 'map keys may come in any order',
    file: 'packages/atproto/cbor.ts',
    find: 'if (difference < 0) break',
    replace: 'if (difference < 0) return',
    killedBy: atproto('cbor'),
  },
]

const ingesting: readonly Mutant[] = [
  {
    name: 'the silent end of a thread that verifies is not noticed',
    file: 'services/ingester/judge-pool.ts',
    find: 'if (!this.#closing) this.#fail(',
    replace: 'if (this.#closing) this.#fail(',
    killedBy: ingester('judge-pool'),
  },
  {
    name: 'the cursor passes frames that have not ended',
    file: 'services/ingester/progress.ts',
    find: 'if (outcome === undefined) break',
    replace: 'if (outcome === undefined) continue',
    killedBy: ingester('progress'),
  },
  {
    name: 'a commit that is not newer is appended again',
    file: 'services/ingester/decide.ts',
    find: "if (record.rev !== '' && rev <= record.rev) return 'duplicate'",
    replace: '',
    killedBy: ingester('decide'),
  },
  {
    name: 'a gap asks for nothing',
    file: 'services/ingester/decide.ts',
    find: 'this.changed.set(did, this.#wantResync(finding, moved, rev, step.cause))',
    replace: 'this.changed.set(did, moved)',
    killedBy: ingester('decide'),
  },
  {
    name: 'every gap asks, though one was asked for',
    file: 'services/ingester/decide.ts',
    find: 'if (this.#asked.has(did) || this.#isPending(record)) {',
    replace: 'if (this.#asked.has(did)) {',
    killedBy: ingester('decide'),
  },
  {
    name: 'ops that could not be proven are appended',
    file: 'services/ingester/decide.ts',
    find: "if (links.tooBig || proof === 'incomplete') return 'resync'",
    replace: '',
    killedBy: ingester('decide'),
  },
  {
    name: 'an account that comes back is not asked for',
    file: 'services/ingester/decide.ts',
    find: 'if (active && record.inactive) {',
    replace: 'if (active && record.inactive && record.resync) {',
    killedBy: ingester('reactivation'),
  },
  {
    name: 'a sweep asks for what it has',
    file: 'services/ingester/listing.ts',
    find: "if (isComplete && rev <= record.rev) return 'known'",
    replace: '',
    killedBy: ingester('listing'),
  },
]

const backfilling: readonly Mutant[] = [
  {
    name: 'a resync names no keys, so that nothing is removed',
    file: 'services/backfiller/export-events.ts',
    find: 'this.#keys.push(exported.path)',
    replace: "if (exported.path === '') this.#keys.push(exported.path)",
    killedBy: backfiller('export-events'),
  },
  {
    name: 'the ranges of a resync leave gaps',
    file: 'services/backfiller/export-events.ts',
    find: 'builder = new ChunkBuilder(repo, options, record.path)',
    replace: 'builder = new ChunkBuilder(repo, options, `${record.path}0`)',
    killedBy: backfiller('export-events'),
  },
  {
    name: 'keys of collections that are not carried are not named',
    file: 'services/backfiller/export-events.ts',
    find: 'this.#keys.push(exported.path)',
    replace: "if (!('unwanted' in exported)) this.#keys.push(exported.path)",
    killedBy: backfiller('export-events'),
  },
  {
    name: 'an outage uses up the tries of a repository',
    file: 'services/backfiller/failures.ts',
    find: 'unavailable: { factor: 1, tries: Infinity }',
    replace: 'unavailable: { factor: 1, tries: 8 }',
    killedBy: backfiller('failures'),
  },
  {
    name: 'failures of all classes add up',
    file: 'services/backfiller/failures.ts',
    find: '(entry.failure === failure.class ? (entry.attempts ?? 0) : 0) + 1',
    replace: '(entry.attempts ?? 0) + 1',
    killedBy: backfiller('failures'),
  },
  {
    name: 'what a host asks for is not kept',
    file: 'services/backfiller/failures.ts',
    find: 'Math.max(waitMs(rule, attempts, limits) * (1 + random() / 2), failure.retryAfterMs)',
    replace: 'waitMs(rule, attempts, limits) * (1 + random() / 2)',
    killedBy: backfiller('failures'),
  },
  {
    name: 'one host may take every place',
    file: 'services/backfiller/host-queues.ts',
    find: 'Math.min(limits.limitsOf(host.name).concurrency, Math.max(1, free / PART_OF_FREE))',
    replace: 'Math.min(limits.limitsOf(host.name).concurrency, Math.max(1, free))',
    killedBy: backfiller('host-queues', 'B2'),
  },
  {
    name: 'a host that asked to be left alone is asked',
    file: 'services/backfiller/lua/acquire.lua',
    find: "if parkedUntil > now then return {0, 'parked', parkedUntil - now} end",
    replace: '',
    killedBy: backfiller('pds-limits.redis', 'asked to be left alone'),
  },
  {
    name: 'a repository counts against its host each time that it fails',
    file: 'services/backfiller/lua/report.lua',
    find: 'not (isKnown or parkMs() >= longest)',
    replace: 'not (parkMs() >= longest)',
    killedBy: backfiller('pds-limits.redis', 'time and again counts once'),
  },
  {
    name: 'the rate of a host has no limit',
    file: 'services/backfiller/lua/acquire.lua',
    find: "if tokens < 1 then return {0, 'rate', math.ceil((1 - tokens) / perSecond * 1000)} end",
    replace: '',
    killedBy: backfiller('pds-limits.redis', 'no more requests are sent in a time'),
  },
  {
    name: 'a retry leaves the entry in its stream as well',
    file: 'services/backfiller/lua/put-off.lua',
    find: "redis.call('XDEL', KEYS[1], ARGV[2])",
    replace: '',
    killedBy: backfiller('retry-schedule.redis', 'moves the entry out of its stream'),
  },
  {
    name: 'a retry is acked and forgotten',
    file: 'services/backfiller/lua/put-off.lua',
    find: "redis.call('ZADD', KEYS[2], string.format('%.0f', due), entry)",
    replace: '',
    killedBy: backfiller('retry-schedule.redis', 'a retry moves the entry'),
  },
  {
    name: 'a chunk of an export goes in wherever the one before it is',
    file: 'packages/streams/export-progress.ts',
    find: "[{ step: 'swap', ...this.#address, from, to: isLast ? undefined : to }]",
    replace: "[{ step: 'put', ...this.#address, value: to }]",
    killedBy: backfiller('first-export.redis', 'Redis comes back older'),
  },
]

export const intakeMutants: readonly Mutant[] = [...verification, ...ingesting, ...backfilling]

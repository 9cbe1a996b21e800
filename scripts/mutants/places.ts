/**
 * Faults of the places in which the hosts of strangers are asked: how many of them one owner may hold, and for how
 * long.
 */
import { killersIn, type Mutant } from './mutant.ts'

const atproto = killersIn('packages/atproto')
const ingester = killersIn('services/ingester')
const indexer = killersIn('services/indexer')

export const placeMutants: readonly Mutant[] = [
  {
    name: 'each host of a wildcard domain has places of its own where did:webs are asked',
    file: 'packages/atproto/identity-resolver.ts',
    find: 'const owner = ownerOf(url.host)',
    replace: 'const owner = url.host',
    killedBy: atproto('identity-places.e2e', 'any number of silent hosts'),
  },
  {
    name: 'whoever has more work has more turns',
    file: 'packages/atproto/throttle.ts',
    find: 'share.waiting.shift()!.begin({ share, asSlow })\n    this.#toTheEnd(share)',
    replace:
      'share.waiting.shift()!.begin({ share, asSlow })\n    if (share.waiting.length === 0) this.#toTheEnd(share)',
    killedBy: atproto('throttle'),
  },
  {
    name: 'one may fill the queue',
    file: 'packages/atproto/throttle.ts',
    find: 'return Math.max(1, left / PART_OF_ROOM)',
    replace: 'return left',
    killedBy: atproto('throttle'),
  },
  {
    name: 'silent hosts of one domain hold half of the places for handles for ever',
    file: 'packages/atproto/throttle.ts',
    find: 'if (this.#isSlow(share)) {\n      const left',
    replace: 'if (Math.random() > 1) {\n      const left',
    killedBy: atproto('throttle', 'who is slow'),
  },
  {
    name: 'a few late answers in a thousand slow a whole domain',
    file: 'packages/atproto/throttle.ts',
    find: 'return inTime < IN_TIME * late',
    replace: 'return inTime < Infinity * late',
    killedBy: atproto('throttle', 'a few that are late'),
  },
  {
    name: 'sixteen silent domains hold all places',
    file: 'packages/atproto/throttle.ts',
    find: 'Math.max(1, Math.floor(concurrency / 2)) - this.#ofSlow',
    replace: 'concurrency',
    killedBy: atproto('throttle', 'all who are slow'),
  },
  {
    name: 'eight silent domains hold all places and all room for documents of did:webs for ever',
    file: 'packages/atproto/identity-resolver.ts',
    find: 'options.webSlowTurnedAway && ',
    replace: 'Math.random() > 1 && ',
    killedBy: atproto('identity-places.e2e', 'eight silent domains'),
  },
  {
    name: 'eight silent domains hold half of the places for handles for ever',
    file: 'packages/atproto/slow-owners.ts',
    find: 'return untilMs > this.#now() ? 0 : 1',
    replace: 'return placesOfSlow',
    killedBy: atproto('throttle', 'eight who are silent'),
  },
  {
    name: 'a silent domain that answers again stays silent',
    file: 'packages/atproto/throttle.ts',
    find: '        this.#slow.inTime(share.whose)\n',
    replace: '',
    killedBy: atproto('throttle', 'answers again'),
  },
  {
    name: 'what waits stays where it waits, though an operator asks for the same',
    file: 'packages/atproto/identity-resolver.ts',
    find: '    if (rest.urgent) flight.hurry()\n',
    replace: '',
    killedBy: atproto('identity-places.e2e', 'waits already, and is urgent now'),
  },
  {
    name: 'four silent owners hold all places of those that do not answer',
    file: 'services/indexer/host-pace.ts',
    find: '    if (retryAfterMs > 0)',
    replace: '    if (Math.random() > 1)',
    killedBy: indexer('slow-hosts.e2e', 'four owners that are silent'),
  },
  {
    name: 'four owners that answer just in time hold all places of those that do not answer',
    file: 'services/indexer/host-pace.ts',
    find: 'if (isLate(owner) && ',
    replace: 'if (Math.random() > 1 && ',
    killedBy: indexer('host-pace', 'two at a time'),
  },
  {
    name: 'one silent host keeps all others of its owner waiting where nobody waits',
    file: 'services/indexer/host-pace.ts',
    find: 'owedMs: 20_000, owedMaxMs: 40_000, paid: 0.125',
    replace: 'owedMs: 10_000, owedMaxMs: 20_000, paid: 0.02',
    killedBy: indexer('host-pace', 'four hosts that never answer leave'),
  },
  {
    name: 'each new host of a domain has a slow question',
    file: 'services/indexer/host-pace.ts',
    find: 'if (inHaste) this.#owners.owe(owner, lateMs)',
    replace: 'if (inHaste) void owner',
    killedBy: indexer('host-pace'),
  },
  {
    name: 'a large owner suffers for one host that is silent',
    file: 'services/indexer/host-pace.ts',
    find: 'owedMs: 60_000, owedMaxMs: 240_000, paid: 0.5',
    replace: 'owedMs: 5_000, owedMaxMs: 60_000, paid: 0.1',
    killedBy: indexer('host-pace'),
  },
  {
    name: 'one owner that is silent holds all places of those that do not answer',
    file: 'services/indexer/host-pace.ts',
    find: '    this.#busy.add(owner)\n',
    replace: '',
    killedBy: indexer('host-pace', 'one question at a time'),
  },
  {
    name: 'hosts of one domain, of which nothing is known, take all places for such hosts',
    file: 'services/ingester/host-places.ts',
    find: 'return free > 1 ? beyond : undefined',
    replace: 'return beyond',
    killedBy: ingester('host-places', 'hosts of one domain'),
  },
  {
    name: 'what an owner has beyond its part it keeps, though others wait',
    file: 'services/ingester/host-places.ts',
    find: 'if (owner.running[kind] < PLACES_PER_OWNER[kind]) return owner',
    replace: 'return owner',
    killedBy: ingester('host-places', 'beyond its part'),
  },
  {
    name: 'an owner has no more than its part, though nobody else wants the places',
    file: 'services/ingester/host-places.ts',
    find: 'return free > 1 ? beyond : undefined',
    replace: 'return undefined',
    killedBy: ingester('host-places', 'hosts of one domain'),
  },
  {
    name: 'what a did:web waits for its turn makes its host a slow one',
    file: 'services/indexer/host-pace.ts',
    find: 'asked: () => void (askedAt ??= this.#now()),',
    replace: 'asked: () => void (askedAt ??= 0),',
    killedBy: indexer('host-pace', 'waited for before'),
  },
  {
    name: 'a second fault of ours is counted out once more',
    file: 'services/ingester/host-places.ts',
    find: '    if (this.#failure) return\n',
    replace: '',
    killedBy: ingester('host-places', 'several faults'),
  },
  {
    name: 'an operator waits for thousands of silent hosts of the same owner',
    file: 'packages/atproto/identity-resolver.ts',
    find: 'urgent ? whenUrgent : owner',
    replace: 'owner',
    killedBy: atproto('identity-places.e2e', 'urgent'),
  },
  {
    name: 'an operator waits for them where an identity is looked up anew',
    file: 'packages/atproto/identity-resolver.ts',
    find: 'await this.#fly(did, { epoch, watch, urgent }), refreshed: true',
    replace: 'await this.#fly(did, { epoch, watch, urgent: false }), refreshed: true',
    killedBy: atproto('identity-places.e2e', 'known anew'),
  },
]

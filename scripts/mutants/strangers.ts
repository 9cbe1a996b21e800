/** Faults of how much of what we have the hosts of strangers may take, and of what is believed of them. */
import { killersIn, type Mutant } from './mutant.ts'

const atproto = killersIn('packages/atproto')
const ingester = killersIn('services/ingester')
const indexer = killersIn('services/indexer')

export const strangerMutants: readonly Mutant[] = [
  {
    name: 'each host of a wildcard domain has places of its own where did:webs are asked',
    file: 'packages/atproto/identity-resolver.ts',
    find: 'this.#askHost(did, url), ownerOf(url.host))',
    replace: 'this.#askHost(did, url), url.host)',
    killedBy: atproto('identity-places.e2e', 'any number of silent hosts'),
  },
  {
    name: 'whoever has more work has more turns',
    file: 'packages/atproto/throttle.ts',
    find: 'this.#ready.delete(share)\n',
    replace:
      'if (share.waiting.length === 1 || share.running + 1 === this.#options.concurrencyOfOne) this.#ready.delete(share)\n',
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
    name: 'each new host of a domain has a slow question',
    file: 'services/indexer/host-pace.ts',
    find: 'if (inHaste) this.#owners.owe(owner, lateMs)',
    replace: '',
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
    name: 'hosts of one domain, of which nothing is known, take all places for such hosts',
    file: 'services/ingester/host-places.ts',
    find: ' || running[kind] >= PLACES_PER_OWNER[kind]',
    replace: '',
    killedBy: ingester('host-places'),
  },
  {
    name: 'a second fault of ours is counted out once more',
    file: 'services/ingester/host-places.ts',
    find: '    if (this.#failure) return\n',
    replace: '',
    killedBy: ingester('host-places', 'several faults'),
  },
  {
    name: 'text that is no rev makes every export of a listed account too old',
    file: 'services/ingester/listing.ts',
    find: "return isTid(rev) && tidMicros(rev) / 1_000 <= nowMs + FUTURE_MS ? rev : ''",
    replace: 'return rev',
    killedBy: ingester('listing'),
  },
  {
    name: 'a record that many ops name needs room for one event',
    file: 'services/ingester/event-room.ts',
    find: '(again + 1) * blocks.length',
    replace: 'blocks.length',
    killedBy: ingester('judge'),
  },
  {
    name: 'an empty byte string is as long in JSON as a control character',
    file: 'services/ingester/event-room.ts',
    find: 'const TEXT_PER_BYTE = 14',
    replace: 'const TEXT_PER_BYTE = 6',
    killedBy: ingester('judge'),
  },
  {
    name: 'a did:web that was turned away here has failed',
    file: 'services/backfiller/failures.ts',
    find: "  if (failure.class === 'crowded') return { act: 'retry', delayMs, entry }\n",
    replace: '',
    killedBy: { file: 'services/backfiller/failures.test.ts', test: 'turned away' },
  },
  {
    name: 'a web page in place of a repository is a fault of the repository',
    file: 'services/backfiller/fetch-export.ts',
    find: 'throw error instanceof RefusedError && isPage(response) && !store.hasHeader ? webPage(response, error) : error',
    replace: 'throw error',
    killedBy: { file: 'services/backfiller/broken-repos.e2e.test.ts', test: 'web page' },
  },
]

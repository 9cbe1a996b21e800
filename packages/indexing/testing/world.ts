/**
 * Random small worlds. A few accounts make commits of one or several writes. Their clocks may be minutes apart, and
 * their record keys may be of another time. In each world one kind of act is frequent and another never happens. So in
 * some worlds everything meets that a few accounts have to do with each other, and in others nearly nothing does. A
 * long history (`history.ts`) has everything everywhere. The events are in their natural order.
 *
 * What `docs/differences.md` names as dependent on the order of arrival is left out: replies in a circle, muted
 * threads, more than a hundred follows of one account by another, and what is named below for each kind of world.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { JsonRecord, RecordEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { cidOf, hash } from './made-up.ts'
import { PAIRS, RecordMaker, type Living, type Made, type Making } from './record-maker.ts'

/**
 * - `shuffled`: for any order of arrival. Verifications are not edited: if an edited one is deleted, the order of its
 *   versions decides who is told.
 * - `in-order`: for orders in which each account's events keep theirs. Verifications are edited too.
 * - `exported`: for any order, with exports. No path is written anew after a deletion, no post is edited, and clocks
 *   and keys are right: of what only an export brings it is not known when it was written.
 *
 * In some worlds replies move to another thread. When such a reply's place in a thread of its author ended depends on
 * the order and on the split into batches, so those times cannot be compared.
 */
export type Kind = 'shuffled' | 'in-order' | 'exported'
export const KINDS: readonly Kind[] = ['shuffled', 'in-order', 'exported']

export interface World {
  kind: Kind
  /**
   * The accounts of this world alone, so that any number of worlds fit into one index and have nothing to do with each
   * other.
   */
  dids: readonly string[]
  events: readonly RecordEvent[]
}

const EPOCH_MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000
const MILLISECOND = 1_000
const CLOCKS_APART_MICROS = 480_000_000
const FAR_MICROS = 900_000_000_000
/** Two commits of one account are at least so far apart: the keys of the writes of one commit lie between them. */
const COMMITS_APART_MICROS = 60
const WRITES_MAX = 6
/** How many of an account's newest records may be edited, deleted or said again. */
const OWN_MAX = 20
const POST = 'app.bsky.feed.post'
type Act = Making | 'again' | 'edit' | 'anew' | 'delete'
type Weights = Partial<Record<Act, number>>

const EVERYTHING: Weights = {
  post: 6,
  reply: 22,
  quote: 6,
  like: 5,
  repost: 3,
  follow: 8,
  block: 1,
  list: 2,
  listitem: 6,
  listblock: 1,
  threadgate: 9,
  postgate: 4,
  profile: 1,
  starterpack: 1,
  verification: 3,
  generator: 1,
  labeler: 1,
  optout: 1,
  status: 1,
  again: 5,
  edit: 12,
  anew: 6,
  delete: 14,
}
/**
 * What a world is about: who may answer, by follows or by lists; what is above what; who is notified; everything. Long
 * histories have less of each than its combinations need.
 */
const THEMES: readonly Weights[] = [
  { reply: 10, follow: 6, threadgate: 6, again: 9, edit: 4, delete: 4 },
  { reply: 10, list: 1, listitem: 6, threadgate: 6, again: 9, edit: 4, delete: 4 },
  { post: 4, reply: 14, edit: 8, anew: 6, delete: 8 },
  { post: 1, reply: 1, like: 4, repost: 3, verification: 8, again: 5, edit: 12, delete: 14 },
  EVERYTHING,
]

/** One write of a commit. Without a record the path is deleted. */
interface Write {
  collection: string
  rkey: string
  record?: Record<string, unknown>
}

/**
 * Makes a world.
 * @param eventsMax the most events that it has; many worlds have only a part of that
 */
export function world(kind: Kind, seed: number, eventsMax: number): World {
  const { dids, events } = new Course(kind, seed, eventsMax)
  return { kind, dids, events }
}

/** The course of events in a world. */
class Course {
  readonly dids: readonly string[]
  readonly events: RecordEvent[] = []
  readonly #kind: Kind
  readonly #random: Random
  readonly #maker: RecordMaker
  readonly #weights: Readonly<Record<string, number>>
  /** By DID, how far the account's clock is ahead, in microseconds. */
  readonly #ahead: ReadonlyMap<string, number>
  /** By DID, when the account wrote last, by its own clock. */
  readonly #last = new Map<string, number>()
  readonly #isSteady: boolean
  readonly #writesMax: number
  readonly #farKeys: number
  /** The world's time, and (`#now`) the time by the clock of the account that writes. */
  #micros = EPOCH_MICROS
  #now = EPOCH_MICROS

  constructor(kind: Kind, seed: number, eventsMax: number) {
    const random = new Random(seed)
    const isExported = kind === 'exported'
    const accounts = random.pick([2, 2, 2, 3, 4, 6])
    const areClocksApart = random.chance(0.4) && !isExported
    this.#kind = kind
    this.#random = random
    this.dids = Array.from({ length: accounts }, (_, i) => `did:plc:${hash(`${kind} ${seed} ${i}`).slice(0, 24)}`)
    this.#ahead = new Map(this.dids.map((did) => [did, areClocksApart ? random.below(CLOCKS_APART_MICROS) : 0]))
    this.#isSteady = random.chance(0.4) || isExported
    this.#writesMax = random.chance(0.6) && !isExported ? WRITES_MAX : 1
    this.#farKeys = isExported ? 0 : random.pick([0, 0.1, 0.6])
    this.#weights = weightsOf(random)
    this.#maker = new RecordMaker({
      random,
      dids: this.dids,
      count: () => this.events.length,
      now: () => this.#time(),
      editsVerifications: kind === 'in-order',
      movesThreads: random.chance(0.5),
    })
    const events = Math.ceil(eventsMax / random.pick([1, 1, 2, 4]))
    while (this.events.length < events) this.#commit(random.pick(this.dids))
  }

  /** Makes a commit some time after the one before, by the account's own clock. */
  #commit(did: string): void {
    const random = this.#random
    this.#micros += this.#isSteady
      ? MILLISECOND + random.below(20_000_000)
      : 1 + random.below(random.pick([50, 3_000, 2_000_000, 40_000_000]))
    this.#now = Math.max(this.#micros + this.#ahead.get(did)!, (this.#last.get(did) ?? 0) + COMMITS_APART_MICROS)
    this.#last.set(did, this.#now)
    const written = new Set<string>()
    for (let writes = random.chance(0.3) ? 1 + random.below(this.#writesMax) : 1; writes > 0; writes--) {
      const write = this.#act(random.weighted(this.#weights) as Act, did, writes)
      if (!write) continue
      const path = `${write.collection}/${write.rkey}`
      if (written.has(path) || (this.#kind === 'exported' && this.#isAnew(`at://${did}/${path}`))) continue
      written.add(path)
      this.#write(did, write)
    }
  }

  #isAnew(uri: string): boolean {
    return this.#maker.gone().some((gone) => gone.uri === uri)
  }

  /**
   * Decides one write.
   * @param nth its number in the commit, which makes its key unique
   */
  #act(act: Act, did: string, nth: number): Write | undefined {
    switch (act) {
      case 'delete':
        return this.#withOwn(did, ({ collection, rkey }) => ({ collection, rkey }))
      case 'edit':
        return this.#withOwn(did, (old) => this.#edited(old))
      case 'again':
        return this.#withOwn(did, ({ collection, record }) =>
          collection in PAIRS
            ? { collection, rkey: this.#key(nth), record: { ...record, createdAt: this.#time() } }
            : undefined,
        )
      case 'anew': {
        const gone = this.#maker.gone().filter((one) => one.did === did && one.collection === POST)
        if (gone.length === 0) return undefined
        const old = this.#random.pick(gone.slice(-OWN_MAX))
        return { collection: POST, rkey: old.rkey, record: this.#maker.anew(old) }
      }
      default: {
        const made = (act === 'threadgate' && this.#gateOfThread(did)) || this.#maker.make(act, did)
        return made && { ...made, rkey: made.rkey ?? this.#key(nth) }
      }
    }
  }

  /** A gate of a post that is itself a reply judges nothing, so most gates are of threads' roots. */
  #gateOfThread(did: string): Made | undefined {
    const roots = this.#maker.living.filter((one) => one.did === did && one.collection === POST && !one.record.reply)
    return roots.length > 0 && this.#random.chance(0.8)
      ? this.#maker.gateOf(this.#random.pick(roots.slice(-3)))
      : undefined
  }

  #withOwn(did: string, write: (own: Living) => Write | undefined): Write | undefined {
    const own = this.#maker.living.filter((record) => record.did === did).slice(-OWN_MAX)
    return own.length > 0 ? write(this.#random.pick(own)) : undefined
  }

  #edited(old: Living): Write | undefined {
    const { collection, rkey } = old
    if (this.#kind === 'exported' && collection === POST) return undefined
    const record = this.#maker.edited(old)
    return record && { collection, rkey, record }
  }

  #write(did: string, { collection, rkey, record: content }: Write): void {
    const rev = tidFromMicros(this.#now, 7)
    const commit = cidOf(`${did} ${rev}`)
    const common = { seq: this.events.length + 1, time: this.#time(), did, commit, rev, collection, rkey }
    const uri = `at://${did}/${collection}/${rkey}`
    if (!content) {
      this.#maker.remove(uri)
      this.events.push({ type: 'delete', ...common })
      return
    }
    const record: JsonRecord = { $type: collection, createdAt: this.#time(), ...content }
    const cid = cidOf(`${uri} ${JSON.stringify(record)}`)
    const existed = this.#maker.put({ did, collection, rkey, uri, cid, record })
    this.events.push({ type: existed ? 'update' : 'create', ...common, cid, record })
  }

  #time(): string {
    return new Date(Math.floor(this.#now / MILLISECOND)).toISOString()
  }

  /** A record key: from just before the commit, as keys are; now and then from long before or long after. */
  #key(nth: number): string {
    const random = this.#random
    if (!random.chance(this.#farKeys)) return tidFromMicros(this.#now - nth, 7)
    return tidFromMicros(this.#now + (random.chance(0.5) ? 1 : -1) * random.below(FAR_MICROS), 3)
  }
}

/** The weights of a world: some acts of its theme are frequent, and some may be missing. */
function weightsOf(random: Random): Readonly<Record<string, number>> {
  const factor = (): number => (random.chance(0.15) ? 0 : random.chance(0.2) ? 4 : 1)
  const weights = Object.entries(random.pick(THEMES)).map(([act, weight]) => [act, weight * factor()] as const)
  return { ...Object.fromEntries(weights), post: 1 + random.below(4) }
}

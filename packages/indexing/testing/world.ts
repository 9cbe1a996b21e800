/**
 * Random small worlds. A few accounts make commits of one or several writes. Their clocks may be minutes apart, and
 * their record keys may be of another time. In each world one kind of act is frequent and another never happens. So in
 * some worlds everything meets that a few accounts have to do with each other, and in others nearly nothing does. A
 * long history (`history.ts`) has everything everywhere. Most worlds are narrow: one thread, and the same few paths
 * written, edited, deleted and written anew. The events are in their natural order.
 *
 * What `docs/differences.md` names as dependent on the order of arrival is left out: replies in a circle; more than a
 * hundred follows of one account by another; and what is named below for each kind of world.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { JsonRecord, RecordEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { cidOf, hash } from './made-up.ts'
import { PAIRS, RecordMaker, type Living, type Made } from './record-maker.ts'
import { themeOf, type Act, type Theme } from './themes.ts'

/**
 * - `shuffled`: for any order of arrival.
 * - `in-order`: for orders in which each account's events keep theirs.
 * - `exported`: for any order, with exports of records that also come by their own commits. No post is edited, no post
 *   or gate is written anew after a deletion, and clocks and keys are right: of what only an export brings it is not
 *   known when it was written.
 * - `backfilled`: for any order. What an account wrote before its export comes with that export alone. Clocks and keys
 *   are right.
 *
 * In some worlds replies move to another thread. When such a reply's place in a thread of its author ended depends on
 * the order and on the split into batches, so those times cannot be compared.
 */
export type Kind = 'shuffled' | 'in-order' | 'exported' | 'backfilled'
export const KINDS: readonly Kind[] = ['shuffled', 'in-order', 'exported', 'backfilled']

export function hasExports(kind: Kind): boolean {
  return kind === 'exported' || kind === 'backfilled'
}

export interface World {
  kind: Kind
  /**
   * The accounts of this world alone, so that any number of worlds fit into one index and have nothing to do with each
   * other.
   */
  dids: readonly string[]
  events: readonly RecordEvent[]
  /** Threads that are muted from the beginning: the URI of the root, and who has muted it. */
  mutes: readonly (readonly [string, string])[]
}

const EPOCH_MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000
const MILLISECOND = 1_000
const CLOCKS_APART_MICROS = 480_000_000
const FAR_MICROS = 900_000_000_000
/** Two commits of one account are at least so far apart: the keys of the writes of one commit lie between them. */
const COMMITS_APART_MICROS = 60
const WRITES_MAX = 6
/**
 * How many of an account's newest records may be edited, deleted or said again. Where few may, the same ones are
 * written over and over.
 */
const OWN_MAX = 20
const OWN_NARROW = [2, 3, 5, 8]
const ACTS_MAX = 1_000
const POST = 'app.bsky.feed.post'
/** Replies and quotes are judged by what of these was there when they were written. */
export const JUDGED_BY: ReadonlySet<string> = new Set([
  POST,
  'app.bsky.feed.threadgate',
  'app.bsky.feed.postgate',
  'app.bsky.graph.follow',
  'app.bsky.graph.listitem',
])

/** What an export has of these counts from when they say, also when their own commits have come. */
export const DATED_BY_CLAIM: ReadonlySet<string> = new Set([POST, 'app.bsky.feed.threadgate', 'app.bsky.feed.postgate'])

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
  const { dids, events, mutes } = new Course(kind, seed, eventsMax)
  return { kind, dids, events, mutes }
}

/** The course of events in a world. */
class Course {
  readonly dids: readonly string[]
  readonly events: RecordEvent[] = []
  readonly #kind: Kind
  readonly #random: Random
  readonly #maker: RecordMaker
  readonly #theme: Theme
  readonly #ownMax: number
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
    this.#kind = kind
    const isNarrow = random.chance(0.8)
    const some = random.pick(isNarrow ? [2, 2, 2, 3] : [2, 2, 3, 4, 6])
    const areClocksApart = random.chance(0.4) && !this.#hasExports
    this.#random = random
    this.#theme = themeOf(random)
    const accounts = this.#theme.accounts ?? some
    this.#ownMax = isNarrow ? random.pick(OWN_NARROW) : OWN_MAX
    this.dids = Array.from({ length: accounts }, (_, i) => `did:plc:${hash(`${kind} ${seed} ${i}`).slice(0, 24)}`)
    this.#ahead = new Map(this.dids.map((did) => [did, areClocksApart ? random.below(CLOCKS_APART_MICROS) : 0]))
    this.#isSteady = random.chance(0.4) || this.#hasExports
    this.#writesMax = random.chance(0.6) ? WRITES_MAX : 1
    this.#farKeys = this.#hasExports ? 0 : random.pick([0, 0.1, 0.6])
    this.#maker = new RecordMaker({
      random,
      dids: this.dids,
      count: () => this.events.length,
      now: () => this.#time(),
      editsVerifications: true,
      movesThreads: random.chance(0.5) && !this.#theme.isMuted,
    })
    const events = Math.ceil((eventsMax * (1 + random.below(3))) / 3)
    const weights = weightsOf(random, this.#theme, isNarrow)
    for (const act of this.#theme.begins) this.#commit(this.dids[0]!, [act])
    // Where nothing can be said of anything more, it ends.
    for (let tries = 0; this.events.length < events && tries < ACTS_MAX; tries++) {
      const writes = random.chance(0.3) ? 1 + random.below(this.#writesMax) : 1
      this.#commit(
        random.pick(this.dids),
        Array.from({ length: writes }, () => random.weighted(weights) as Act),
      )
    }
  }

  get #hasExports(): boolean {
    return hasExports(this.#kind)
  }

  /** Each thread may be muted by each account. */
  get mutes(): [string, string][] {
    if (!this.#theme.isMuted) return []
    const roots = new Set(this.#maker.ever.filter(isRoot).map(({ uri }) => uri))
    return [...roots].flatMap((root) =>
      this.dids.flatMap((did): [string, string][] => (this.#random.chance(0.6) ? [[root, did]] : [])),
    )
  }

  /** Makes a commit some time after the one before, by the account's own clock. */
  #commit(did: string, acts: readonly Act[]): void {
    const random = this.#random
    this.#micros += this.#isSteady
      ? MILLISECOND + random.below(20_000_000)
      : 1 + random.below(random.pick([50, 3_000, 2_000_000, 40_000_000]))
    this.#now = Math.max(this.#micros + this.#ahead.get(did)!, (this.#last.get(did) ?? 0) + COMMITS_APART_MICROS)
    this.#last.set(did, this.#now)
    const written = new Set<string>()
    for (const [nth, act] of acts.entries()) {
      const write = this.#act(act, did, nth + 1)
      if (!write || this.#isLeftOut(did, write)) continue
      const path = `${write.collection}/${write.rkey}`
      // By its key each of these is a moment before its commit, by which of several in one would be of different times.
      const name = this.#hasExports && JUDGED_BY.has(write.collection) ? 'judged by' : path
      if (written.has(name)) continue
      written.add(name)
      this.#write(did, write)
    }
  }

  #isLeftOut(did: string, { collection, rkey, record }: Write): boolean {
    if (
      this.#kind === 'exported' &&
      record &&
      DATED_BY_CLAIM.has(collection) &&
      this.#isAnew(`at://${did}/${collection}/${rkey}`)
    )
      return true
    return false
  }

  #isAnew(uri: string): boolean {
    return this.#maker.gone().some((gone) => gone.uri === uri)
  }

  /**
   * Decides one write.
   * @param nth its number in the commit, which makes its key unique
   */
  #act(act: Act, did: string, nth: number): Write | undefined {
    const random = this.#random
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
        const gone = this.#maker.gone().filter((one) => one.did === did)
        if (gone.length === 0) return undefined
        const old = random.pick(gone.slice(-this.#ownMax))
        return { collection: old.collection, rkey: old.rkey, record: this.#anew(old) }
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
    const own = this.#maker.living.filter((record) => record.did === did).slice(-this.#ownMax)
    return own.length > 0 ? write(this.#random.pick(own)) : undefined
  }

  #edited(old: Living): Write | undefined {
    const { collection, rkey } = old
    if (this.#kind === 'exported' && collection === POST) return undefined
    const record = this.#maker.edited(old)
    return record && { collection, rkey, record }
  }

  /** When it was indexed, which is compared where there are no exports, depends on the split, if it is what it was. */
  #anew(old: Living): Record<string, unknown> {
    const record = this.#maker.anew(old)
    return this.#hasExports || record !== old.record ? record : { ...record, createdAt: this.#time() }
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

function isRoot({ collection, record }: Living): boolean {
  return collection === POST && record.reply === undefined
}

/**
 * The weights of a world: some acts of its theme are frequent, and some may be missing. A narrow world has hardly more
 * threads than it begins with.
 */
function weightsOf(random: Random, { weights }: Theme, isNarrow: boolean): Readonly<Record<string, number>> {
  const factor = (): number => (random.chance(0.15) ? 0 : random.chance(0.2) ? 4 : 1)
  const chosen = Object.entries(weights).map(([act, weight]) => [act, weight * factor()] as const)
  return { ...Object.fromEntries(chosen), post: isNarrow ? 0.3 : 1 + random.below(4) }
}

/**
 * Decides in advance everything that the people of the sandbox will do: a pure function of a seed.
 *
 * People and records are numbers here, since their DIDs, URIs and CIDs exist only once the network runs. A record
 * refers to them by placeholders, which `population.ts` fills in:
 *
 * - `{ $person: 3 }` a DID
 * - `{ $uri: 12 }` the URI of record 12
 * - `{ $ref: 12 }` its `{ uri, cid }`
 * - `{ $blob: 2 }` an uploaded picture
 *
 * A reply may outlive the posts above it: its root may have been deleted.
 */
import { Random } from './random.ts'
import { type Draft, type Kind, type Living, type Planned, WRITERS } from './records.ts'

export type Action =
  | { kind: 'create' | 'replace'; who: number; id: number; collection: string; rkey: string; record: Planned }
  | { kind: 'delete'; who: number; id: number }
  | { kind: 'label'; subject: { person: number } | { record: number }; val: string; negate: boolean; hours?: number }

export interface Plan {
  seed: number
  /** Account names; a person's number is its index. */
  people: string[]
  /** Done before the daemons start. */
  before: Action[]
  /** Done while they run. */
  during: Action[]
}

export interface PlanOptions {
  seed: number
  people: number
  before: number
  during: number
}

/**
 * How often each kind of action happens. Near the network's mix, but rare kinds are more frequent, so that they occur
 * at all.
 */
const MIX: Record<Exclude<Kind, 'profile'> | 'undo' | 'delete' | 'editProfile' | 'label', number> = {
  like: 26,
  post: 14,
  reply: 13,
  follow: 11,
  repost: 7,
  undo: 6,
  quote: 4,
  image: 4,
  delete: 4,
  external: 3,
  block: 3,
  editProfile: 3,
  listItem: 3,
  label: 3,
  list: 1,
  threadGate: 1,
  postGate: 1,
  listBlock: 1,
  feedGenerator: 1,
  starterPack: 1,
  foreign: 1,
}

const START = Date.parse('2026-10-01T08:00:00.000Z')
const LABELS = ['spam', 'porn', 'rude', '!hide', 'misleading']

export function plan({ seed, people, before, during }: PlanOptions): Plan {
  const planner = new Planner(seed, people)
  const first = [...planner.profiles(), ...Array.from({ length: before }, () => planner.next())]
  const later = Array.from({ length: during }, () => planner.next())
  return { seed, people: planner.people, before: first, during: later }
}

class Planner {
  readonly people: string[]
  readonly #random: Random
  readonly #living: Living[] = []
  readonly #labels: (Action & { kind: 'label' })[] = []
  #clock = START
  #nextId = 0

  constructor(seed: number, people: number) {
    this.#random = new Random(seed)
    this.people = Array.from({ length: people }, (_, i) => `${NAMES[i % NAMES.length]}-${i + 1}`)
  }

  /** Everybody but the last person has a profile. */
  profiles(): Action[] {
    return this.people.slice(0, -1).map((_, who) => this.#create(who, 'profile')!)
  }

  next(): Action {
    this.#clock += 1_000 * (1 + this.#random.below(600))
    // The random choice may be impossible yet (a reply when there are no posts). Then somebody posts instead.
    return this.#act(this.#random.weighted(MIX)) ?? this.#create(this.#anybody(), 'post')!
  }

  #act(kind: keyof typeof MIX): Action | undefined {
    switch (kind) {
      case 'editProfile':
        return this.#editProfile()
      case 'delete':
        return this.#delete(({ kind: of }) => of !== 'profile')
      case 'undo':
        return this.#delete(({ kind: of }) => of === 'tie')
      case 'label':
        return this.#label()
      default:
        return this.#create(this.#anybody(), kind)
    }
  }

  #create(who: number, kind: Kind): Action | undefined {
    const draft = this.#draft(who, kind)
    if (!draft) return undefined
    const id = this.#nextId++
    this.#living.push({ ...draft, id, who })
    const { collection, rkey, record } = draft
    return { kind: 'create', who, id, collection, rkey, record }
  }

  #draft(who: number, kind: Kind): Draft | undefined {
    const createdAt = new Date(this.#clock).toISOString()
    const { people } = this
    return WRITERS[kind]({ who, createdAt, rkey: this.#tid(), random: this.#random, living: this.#living, people })
  }

  #editProfile(): Action | undefined {
    const profiles = this.#living.filter(({ kind }) => kind === 'profile')
    if (profiles.length === 0) return undefined
    const { id, who, collection, rkey } = this.#random.pick(profiles)
    const { record } = this.#draft(who, 'profile')!
    return { kind: 'replace', who, id, collection, rkey, record }
  }

  #delete(fits: (record: Living) => boolean): Action | undefined {
    const candidates = this.#living.filter(fits)
    if (candidates.length === 0) return undefined
    const { id, who } = this.#random.pick(candidates)
    this.#living.splice(
      this.#living.findIndex((record) => record.id === id),
      1,
    )
    return { kind: 'delete', who, id }
  }

  /** Makes a label; every third one negates an earlier label. */
  #label(): Action {
    if (this.#labels.length > 0 && this.#random.chance(0.33)) {
      return { ...this.#random.pick(this.#labels), negate: true }
    }
    const posts = this.#living.filter(({ kind }) => kind === 'post')
    const onPost = posts.length > 0 && this.#random.chance(0.7)
    const label: Action & { kind: 'label' } = {
      kind: 'label',
      subject: onPost ? { record: this.#random.pickRecent(posts).id } : { person: this.#anybody() },
      val: this.#random.pick(LABELS),
      negate: false,
      ...(this.#random.chance(0.2) && { hours: 24 }),
    }
    this.#labels.push(label)
    return label
  }

  #anybody(): number {
    return this.#random.below(this.people.length)
  }

  /** A record key in the order of the plan's clock: 53 bits of microseconds, ten of a counter, in sortable base 32. */
  #tid(): string {
    const digits = '234567abcdefghijklmnopqrstuvwxyz'
    let value = BigInt(this.#clock) * 1_000n * 1_024n + BigInt(this.#nextId % 1_024)
    let key = ''
    for (let i = 0; i < 13; i++, value >>= 5n) key = digits[Number(value & 31n)]! + key
    return key
  }
}

/** Names get a number, since a PDS reserves the names of famous people. */
const NAMES = [
  ...'ada grace alan edsger barbara donald margaret dennis radia leslie frances kenneth'.split(' '),
  ...'hedy claude katherine tony mary niklaus annie john karen robin sophie adele'.split(' '),
]

/**
 * Questions to strangers' hosts: one at a time to each host, and few in all. Anybody may run any number of hosts that
 * never answer, and these must not keep the others waiting.
 *
 * - **Kinds.** A host is quick or slow, by how soon its last answer came, or unknown while it has given none. Each kind
 *   has places of its own, so that a quick host waits for no silent one. A host is shown to be quick only by an answer
 *   to the actual question. A host that answers who it is and then says nothing more stays of the kind that it was.
 * - **Owners** (`host-owner.ts`) take turns, and so do the hosts of each. An owner has a part of the places of a kind,
 *   because below one wildcard domain there is always one more unknown host. Yet most accounts are at hosts of a single
 *   owner. So an owner may have more than its part while no other owner waits for its own. It then leaves one place
 *   free for whoever comes, and the others get their part as its questions end, within seconds.
 * - **Bounds.** What waits is bounded for each kind, host and owner, so that slow hosts do not take the room of the
 *   others. The number of hosts that are remembered is bounded too.
 */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { remember } from '@sluice/runtime/remember.ts'

export interface Question {
  /**
   * Must not reject for a fault of the host.
   * @param watch to be told when the host is asked, and when it has answered or failed: the time before and after is
   * ours
   */
  ask: (watch: AskingWatch) => Promise<void>
  /** It asks only who the host is; the actual question follows from the answer. Default: it is the actual question. */
  isFirst?: boolean
  /** Called instead of `ask` when there is no room for it. */
  drop: () => void
}

type Kind = 'quick' | 'unknown' | 'slow'

const PLACES: Record<Kind, number> = { quick: 4, unknown: 8, slow: 3 }
/** How many of these the hosts of one owner may have, even while others wait. */
const PLACES_PER_OWNER: Record<Kind, number> = { quick: 3, unknown: 4, slow: 1 }
/**
 * When so many questions of all kinds wait, none is taken for a host of this kind. Slow hosts work off some 1,000
 * questions in an hour.
 */
const WAITING: Record<Kind, number> = { quick: 10_000, unknown: 5_000, slow: 2_500 }
const WAITING_PER_HOST: Record<Kind, number> = { quick: 1_000, unknown: 1_000, slow: 100 }
/** The part of the questions that may wait which the hosts of one owner may have. */
const PART_PER_OWNER = 1 / 2
/**
 * An answer that took longer is slow, whatever it says. This is less than a connection that comes to nothing takes (5
 * s). A host that refuses at once holds no place.
 */
const QUICK_MS = 3_000
/** How many hosts are remembered, of about 100 bytes each. */
const REMEMBERED = 10_000

/** Kept for as long as a question to one of its hosts waits or is under way. */
interface Owner {
  /** Questions that wait or are under way. */
  size: number
  running: Record<Kind, number>
  /** Hosts with a question that waits and none under way; the next one comes first. */
  ready: Record<Kind, Set<string>>
}

export class HostPlaces {
  readonly #now: () => number
  /** The questions that wait, by host. A host is here while one of its questions waits or is under way. */
  readonly #waiting = new Map<string, Question[]>()
  /** Owners with hosts that are ready; the next one comes first. */
  readonly #ready = { quick: new Set<Owner>(), unknown: new Set<Owner>(), slow: new Set<Owner>() }
  readonly #running = { quick: 0, unknown: 0, slow: 0 }
  readonly #owners = new Map<string, Owner>()
  /** The latest at the end. */
  readonly #kinds = new Map<string, Kind>()
  readonly #onIdle: (() => void)[] = []
  #size = 0
  #failure: { error: unknown } | undefined

  constructor(now = () => performance.now()) {
    this.#now = now
  }

  /** @throws what a question threw */
  add(host: string, question: Question): void {
    if (this.#failure) throw this.#failure.error
    const waiting = this.#waiting.get(host)
    const kind = this.#kindOf(host)
    const room = WAITING[kind]
    const name = ownerOf(host)
    const owner = this.#owners.get(name) ?? newOwner()
    const isFull = this.#size >= room || owner.size >= room * PART_PER_OWNER
    if (isFull || (waiting?.length ?? 0) >= WAITING_PER_HOST[kind]) return question.drop()
    this.#size++
    owner.size++
    this.#owners.set(name, owner)
    if (waiting) waiting.push(question)
    else {
      this.#waiting.set(host, [question])
      this.#line(kind, host)
      this.#begin(kind)
    }
  }

  /**
   * Resolves when nothing waits and nothing is under way.
   * @throws what a question threw
   */
  async drained(): Promise<void> {
    if (this.#size > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve))
    if (this.#failure) throw this.#failure.error
  }

  #kindOf(host: string): Kind {
    return this.#kinds.get(host) ?? 'unknown'
  }

  #line(kind: Kind, host: string): void {
    const owner = this.#owners.get(ownerOf(host))!
    owner.ready[kind].add(host)
    this.#ready[kind].add(owner)
  }

  #begin(kind: Kind): void {
    for (let owner = this.#next(kind); owner !== undefined; owner = this.#next(kind)) {
      const [host] = owner.ready[kind]
      owner.ready[kind].delete(host!)
      this.#ready[kind].delete(owner)
      if (owner.ready[kind].size > 0) this.#ready[kind].add(owner)
      this.#running[kind]++
      owner.running[kind]++
      void this.#ask(kind, host!)
    }
  }

  /**
   * The owner whose turn it is. The walk is short: an owner that is passed over has all of its part, so there are no
   * more of these than places.
   */
  #next(kind: Kind): Owner | undefined {
    const free = PLACES[kind] - this.#running[kind]
    if (free <= 0) return undefined
    for (const owner of this.#ready[kind]) if (owner.running[kind] < PLACES_PER_OWNER[kind]) return owner
    const [beyond] = this.#ready[kind]
    return free > 1 ? beyond : undefined
  }

  /** Asks the host the first question that waits for it, in a place of this kind. */
  async #ask(kind: Kind, host: string): Promise<void> {
    const waiting = this.#waiting.get(host)!
    const { ask, isFirst = false } = waiting.shift()!
    const tookMs = await this.#timed(ask)
    const isQuick = tookMs !== undefined && tookMs <= QUICK_MS
    if (tookMs !== undefined && !(isQuick && isFirst)) this.#note(host, isQuick ? 'quick' : 'slow')
    this.#trim(host, waiting)
    this.#giveBack(kind, host, waiting)
    this.#leave(host, 1)
    if (this.#size === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  /** @returns how long the host took, in ms; undefined when it was not asked at all */
  async #timed(ask: Question['ask']): Promise<number | undefined> {
    let askedAt: number | undefined
    let answeredAt: number | undefined
    try {
      await ask({
        asked: () => void (askedAt ??= this.#now()),
        answered: () => void (answeredAt ??= this.#now()),
      })
    } catch (error) {
      this.#fail(error)
    }
    return askedAt === undefined ? undefined : (answeredAt ?? this.#now()) - askedAt
  }

  /** Gives a place back. The host's next question waits among those of its kind, which may be another by now. */
  #giveBack(kind: Kind, host: string, waiting: readonly Question[]): void {
    const kindNow = this.#kindOf(host)
    this.#running[kind]--
    this.#owners.get(ownerOf(host))!.running[kind]--
    if (waiting.length > 0) this.#line(kindNow, host)
    else this.#waiting.delete(host)
    for (const each of new Set([kindNow, kind])) this.#begin(each)
  }

  #leave(host: string, count: number): void {
    const name = ownerOf(host)
    const owner = this.#owners.get(name)!
    this.#size -= count
    owner.size -= count
    if (owner.size === 0) this.#owners.delete(name)
  }

  #note(host: string, kind: Kind): void {
    remember(this.#kinds, host, kind, REMEMBERED)
  }

  /** Drops what waits for a host beyond the bounds of its kind: it may have turned out to be slow. */
  #trim(host: string, waiting: Question[]): void {
    const kind = this.#kindOf(host)
    const dropped = waiting.splice(this.#size > WAITING[kind] ? 0 : WAITING_PER_HOST[kind])
    this.#leave(host, dropped.length)
    for (const { drop } of dropped) drop()
  }

  /** A fault of ours: nothing more begins. */
  #fail(error: unknown): void {
    if (this.#failure) return
    this.#failure = { error }
    for (const ready of Object.values(this.#ready)) ready.clear()
    for (const { ready } of this.#owners.values()) for (const hosts of Object.values(ready)) hosts.clear()
    for (const [host, waiting] of this.#waiting) this.#leave(host, waiting.splice(0).length)
  }
}

function newOwner(): Owner {
  return {
    size: 0,
    running: { quick: 0, unknown: 0, slow: 0 },
    ready: { quick: new Set(), unknown: new Set(), slow: new Set() },
  }
}

/**
 * Questions to strangers' hosts: of each host one at a time, and few in all. Hosts are asked in places of their kind, by how soon the last answer of each came: those that
 * never answer keep only each other waiting, and those of which nothing is known, each of them once. A host that was quick waits for no silent one, however many there are. Quick is who
 * soon answers the question that all this is for: a host that tells who it is, and then nothing, stays what it was.
 *
 * Owners (`host-owner.ts`) take turns, and the hosts of each. An owner has a part of the places of a kind, and half of the room: below one wildcard domain there is always one
 * more host of which nothing is known. But most accounts are at hosts of one owner, so an owner goes beyond its part while no other wants more of its own, and leaves one place
 * free for whoever comes: the others have their part back as questions end, each within seconds. Bounded: what waits, so that the slow do not take the room of the others, and
 * how many hosts are remembered.
 */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'

export interface Question {
  /** Must not reject for a fault of the host. @param watch to be told when the host is asked, and when it has answered or failed: what is before and after is ours */
  ask: (watch: AskingWatch) => Promise<void>
  /** Another one follows from the answer, and shows what the host is like; default: it is the one that all is for. */
  isFirst?: boolean
  /** There is no room for it. */
  drop: () => void
}

type Kind = 'quick' | 'unknown' | 'slow'

const PLACES: Record<Kind, number> = { quick: 4, unknown: 8, slow: 3 }
/** Of these, for the hosts of one owner, whatever the others want. */
const PLACES_PER_OWNER: Record<Kind, number> = { quick: 3, unknown: 4, slow: 1 }
/** Of a kind nothing more is taken when so much waits in all; slow ones work off some 1,000 in an hour. */
const WAITING: Record<Kind, number> = { quick: 10_000, unknown: 5_000, slow: 2_500 }
const WAITING_PER_HOST: Record<Kind, number> = { quick: 1_000, unknown: 1_000, slow: 100 }
/** Of the room, for the hosts of one owner. */
const PART_PER_OWNER = 1 / 2
/** An answer that took longer is slow, whatever it was: less than a connection that comes to nothing takes (5 s). A host that refuses at once holds no place. */
const QUICK_MS = 3_000
/** Hosts; about 100 bytes each. */
const REMEMBERED = 10_000

/** Whose hosts some are; as long as anything of them waits or is under way. */
interface Owner {
  /** Questions. */
  size: number
  running: Record<Kind, number>
  /** Hosts with a question that waits and none under way; the next one comes first. */
  ready: Record<Kind, Set<string>>
}

export class HostPlaces {
  readonly #now: () => number
  /** What waits, by host; a host is here while one of its questions waits or is under way. */
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

  /** Resolves when nothing waits and nothing is under way. @throws what a question threw */
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

  /** Whose turn it is. Ready and at their part are no more owners than there are places. */
  #next(kind: Kind): Owner | undefined {
    const free = PLACES[kind] - this.#running[kind]
    if (free <= 0) return undefined
    for (const owner of this.#ready[kind]) if (owner.running[kind] < PLACES_PER_OWNER[kind]) return owner
    const [beyond] = this.#ready[kind]
    return free > 1 ? beyond : undefined
  }

  async #ask(kind: Kind, host: string): Promise<void> {
    const waiting = this.#waiting.get(host)!
    const { ask, isFirst = false } = waiting.shift()!
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
    const tookMs = askedAt === undefined ? undefined : (answeredAt ?? this.#now()) - askedAt
    if (tookMs !== undefined) this.#note(host, tookMs, isFirst)
    this.#trim(host, waiting)
    this.#running[kind]--
    this.#owners.get(ownerOf(host))!.running[kind]--
    if (waiting.length > 0) this.#line(this.#kindOf(host), host)
    else this.#waiting.delete(host)
    for (const each of new Set([this.#kindOf(host), kind])) this.#begin(each)
    this.#leave(host, 1)
    if (this.#size === 0) for (const resolve of this.#onIdle.splice(0)) resolve()
  }

  #leave(host: string, count: number): void {
    const name = ownerOf(host)
    const owner = this.#owners.get(name)!
    this.#size -= count
    owner.size -= count
    if (owner.size === 0) this.#owners.delete(name)
  }

  #note(host: string, tookMs: number, isFirst: boolean): void {
    const isQuick = tookMs <= QUICK_MS
    if (!isQuick || !isFirst) this.#remember(host, isQuick ? 'quick' : 'slow')
  }

  #remember(host: string, kind: Kind): void {
    this.#kinds.delete(host)
    this.#kinds.set(host, kind)
    if (this.#kinds.size > REMEMBERED) this.#kinds.delete(this.#kinds.keys().next().value!)
  }

  /** Of a host that turned out to be slow less may wait. */
  #trim(host: string, waiting: Question[]): void {
    const kind = this.#kindOf(host)
    const dropped = waiting.splice(this.#size > WAITING[kind] ? 0 : WAITING_PER_HOST[kind])
    this.#leave(host, dropped.length)
    for (const { drop } of dropped) drop()
  }

  /** A fault of ours: nothing more is begun. */
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

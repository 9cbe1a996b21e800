/**
 * How entries come to a consumer: entries of its own that it has not seen, new entries, and entries of dead consumers.
 *
 * An entry that is pending under our name, and that we do not hold, was handed either to a predecessor that died or to
 * us, in an answer that got lost. Such entries are taken before anything new, so the order within a key survives both.
 *
 * Example: entries 1 and 2 of one key are delivered in an answer that gets lost. Without this rule the next read would
 * return entry 3, and 3 would be applied before 1 and 2.
 */
import type { EntryFields } from '@sluice/events/codec.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { classified } from './connection.ts'
import type { ConsumerLimits, ConsumerObserver, ConsumerOptions, Refusal } from './consumer.ts'
import { ensureGroup, readNew, retireConsumers, type Delivered, type Entry } from './entries.ts'
import type { Lanes } from './lanes.ts'
import { leaseKey } from './lease.ts'
import { refusalOf } from './open-entries.ts'
import type { Patience } from './patience.ts'
import { claim, listPending, touch, type PendingEntry } from './pending.ts'
import { isSuspect } from './suspects.ts'

export interface IntakeOptions<E extends object> extends Pick<
  ConsumerOptions<E>,
  'reader' | 'redis' | 'address' | 'codec' | 'key' | 'peekKey'
> {
  isolate: boolean
  limits: ConsumerLimits
  observer: Partial<ConsumerObserver>
  patience: Patience
  lanes: Lanes<E>
  bury: (entry: Delivered, refusal: Refusal) => Promise<void>
  /** Pending entries that had no body were cleared; the oldest first. */
  onPhantoms: (ids: readonly string[]) => void
}

/** Entries that are claimed in one step. The number is small because their size is not known before. */
const CLAIM_ENTRIES = 32
const TOUCH_ENTRIES = 1_000

/** The entries of a dead consumer that were taken over. */
interface Reclaimed {
  entries: number
  firstId: string
}

export class Intake<E extends object> {
  readonly #options: IntakeOptions<E>
  readonly #size: ReadSize
  /**
   * Pending entries of our own that we have not seen may exist: those of a predecessor, or of an answer that did not
   * arrive.
   */
  #unanswered = true
  /** Pending entries of our own that we have not seen do exist: `touch` has found some. */
  #unseen = false

  constructor(options: IntakeOptions<E>) {
    this.#options = options
    this.#size = new ReadSize(options.limits.readEntries)
  }

  /** Reads until the signal: first the entries that are pending under our name, then new ones. */
  async read(signal: AbortSignal): Promise<void> {
    const { redis, address, lanes, patience, observer } = this.#options
    await patience.until(signal, () => ensureGroup(redis, address))
    while (!signal.aborted) {
      await lanes.roomToRead()
      if (signal.aborted) return
      const entries = await patience.until(signal, async () => {
        if (this.#unanswered || this.#unseen) await this.#takeUpOwn(signal)
        return signal.aborted ? [] : this.#readNew()
      })
      if (entries.length === 0) continue
      observer.read?.(entries.length)
      await this.#accept(entries, () => 1)
    }
  }

  /** Until the signal, at intervals: reclaims what dead consumers left, and forgets consumers that went away. */
  async reclaim(signal: AbortSignal): Promise<void> {
    const { redis, address, limits, patience, observer } = this.#options
    const { reclaimIdleMs } = limits
    // The interval is random, so that consumers that started together do not all look at the same moment.
    for (let waitMs = reclaimIdleMs * Math.random(); ; waitMs = (reclaimIdleMs * (1 + Math.random())) / 2) {
      await sleep(waitMs, signal)
      await patience.until(signal, () => this.#reclaimIdle(signal))
      const retired = await patience.until(signal, () => retireConsumers(redis, address, limits.retireIdleMs))
      if (retired.length > 0) observer.retired?.(retired)
    }
  }

  /**
   * Touches the entries that we hold and have not touched for `idleMs`, which tells the group that we still work on
   * them. If there are pending entries of our own that we have not seen, they are taken before the next read.
   */
  async touch(idleMs: number): Promise<void> {
    const { redis, address, lanes } = this.#options
    const { consumer } = address
    for (let after: string | undefined; ;) {
      const own = await listPending(redis, address, { idleMs, count: TOUCH_ENTRIES, after, consumer })
      const held = own.filter(({ id }) => lanes.has(id))
      if (held.length < own.length) this.#unseen = true
      await touch(redis, address, idleMs, idsOf(held))
      if (own.length < TOUCH_ENTRIES) return
      after = own.at(-1)!.id
    }
  }

  async #readNew(): Promise<Entry[]> {
    const { reader, address, lanes, limits } = this.#options
    this.#unanswered = true
    const count = this.#size.entries(lanes.room)
    try {
      // While lanes wait for more entries, this read must not block: the end of the stream must be reported to them at
      // once.
      const entries = await readNew(reader, address, count, lanes.moreToCome ? undefined : limits.blockMs)
      lanes.moreToCome = entries.length === count
      this.#unanswered = false
      return entries
    } catch (error) {
      lanes.moreToCome = false
      throw error
    }
  }

  async #takeUpOwn(signal: AbortSignal): Promise<void> {
    const { redis, address, lanes } = this.#options
    const { consumer } = address
    // Both flags are set before the work. `touch` may find more unseen entries meanwhile, and sets `#unseen` again. If
    // this method fails halfway, `#unanswered` makes the next read begin it again.
    this.#unseen = false
    this.#unanswered = true
    lanes.moreToCome = false
    for (let after: string | undefined; ;) {
      await lanes.roomToRead()
      if (signal.aborted) return
      const own = await listPending(redis, address, { idleMs: 0, count: CLAIM_ENTRIES, after, consumer })
      const unseen = own.filter(({ id }) => !lanes.has(id))
      await this.#claim(unseen, 0, 'own-pending')
      if (own.length < CLAIM_ENTRIES) break
      after = own.at(-1)!.id
    }
  }

  async #reclaimIdle(signal: AbortSignal): Promise<void> {
    const { redis, address, lanes, limits } = this.#options
    const isDead = this.#deathRegister()
    const reclaimed = new Map<string, Reclaimed>()
    try {
      for (let after: string | undefined; ;) {
        await lanes.roomToRead()
        if (signal.aborted) return
        const idle = await listPending(redis, address, { idleMs: limits.reclaimIdleMs, count: CLAIM_ENTRIES, after })
        for (const [consumer, entries] of Map.groupBy(idle, (entry) => entry.consumer)) {
          if (!(await isDead(consumer))) continue
          const taken = await this.#claim(entries, limits.reclaimIdleMs, 'reclaimed')
          const { entries: before = 0, firstId = entries[0]!.id } = reclaimed.get(consumer) ?? {}
          if (taken > 0) reclaimed.set(consumer, { entries: before + taken, firstId })
        }
        if (idle.length < CLAIM_ENTRIES) return
        after = idle.at(-1)!.id
      }
    } finally {
      this.#reportDeaths(reclaimed)
    }
  }

  /** Reports one incident for each dead consumer, however much it left. */
  #reportDeaths(reclaimed: ReadonlyMap<string, Reclaimed>): void {
    const { address, patience } = this.#options
    for (const [consumer, { entries, firstId }] of reclaimed) {
      patience.report({
        kind: 'consumer-died',
        what: `consumer "${consumer}" of group ${address.group} on ${address.stream} left ${entries} entries behind (first ${firstId})`,
        action: `consumer "${address.consumer}" took them over`,
      })
    }
  }

  /**
   * Returns a function that tells whether the entries of a consumer may be reclaimed. Consumers of other programs have
   * no lease: for them it is enough that they have been silent.
   */
  #deathRegister(): (consumer: string) => Promise<boolean> {
    const { redis, address } = this.#options
    const known = new Map<string, boolean>([[address.consumer, false]])
    return async (consumer) => {
      const dead = known.get(consumer) ?? (await classified(redis.exists(leaseKey({ ...address, consumer })))) === 0
      known.set(consumer, dead)
      return dead
    }
  }

  /** Claims entries for this consumer. Returns how many it got. */
  async #claim(pending: PendingEntry[], idleMs: number, from: 'own-pending' | 'reclaimed'): Promise<number> {
    const { redis, address, observer, onPhantoms } = this.#options
    const { entries, phantoms } = await claim(redis, address, idleMs, idsOf(pending))
    if (phantoms.length > 0) {
      observer.phantoms?.(phantoms.length)
      onPhantoms(phantoms)
    }
    if (entries.length === 0) return 0
    observer.redelivered?.(entries.length, from)
    const before = new Map(pending.map(({ id, deliveries }) => [id, deliveries]))
    await this.#accept(entries, (id) => before.get(id)! + 1)
    return entries.length
  }

  async #accept(entries: Entry[], deliveriesOf: (id: string) => number): Promise<void> {
    const { codec, key, peekKey, lanes, isolate, bury } = this.#options
    for (const { id, fields } of entries) {
      const deliveries = deliveriesOf(id)
      const bytes = bytesOf(fields)
      this.#size.saw(bytes)
      const isolated = isolate && isSuspect(deliveries)
      const peeked = peekKey?.(fields)
      if (peeked !== undefined) {
        lanes.add({ id, fields, event: undefined, key: peeked, bytes, deliveries, isolated })
        continue
      }
      try {
        const event = codec.decode(fields)
        lanes.add({ id, fields, event, key: key(event), bytes, deliveries, isolated })
      } catch (error) {
        await bury({ id, fields, deliveries }, refusalOf(error))
      }
    }
  }
}

/**
 * How many entries to ask for at once. Redis counts entries, but our limit counts bytes; the size of the largest recent
 * entries tells how many fit. So the limit is exceeded by at most `readEntries` entries that are suddenly large, and
 * only once.
 */
class ReadSize {
  readonly #most: number
  #largestBytes = 1

  constructor(most: number) {
    this.#most = most
  }

  saw(bytes: number): void {
    this.#largestBytes = Math.max(bytes, this.#largestBytes * 0.999)
  }

  entries(room: { entries: number; bytes: number }): number {
    const fitting = Math.floor(room.bytes / this.#largestBytes)
    return Math.max(1, Math.min(this.#most, room.entries, fitting))
  }
}

const idsOf = (entries: readonly { id: string }[]): string[] => entries.map(({ id }) => id)

function bytesOf(fields: EntryFields): number {
  let bytes = 0
  for (const key in fields) bytes += fields[key]!.length
  return bytes
}

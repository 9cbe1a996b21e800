/**
 * Keeps slow hosts from blocking the workers that others wait for.
 *
 * There are two kinds of places (workers): places that others wait for, where hosts are asked "in haste", and places
 * that nobody waits for, where slow hosts are asked.
 *
 * Debt of a host: whatever its answer takes beyond `SOON_MS` is time that the host owes, and pays off slowly. While it
 * owes too much, it is not asked in haste (`SlowHostError`), only in the other kind of place. So over time a host gets
 * a tenth of one place in haste, plus once as many slow questions as were under way at the same time, however many
 * accounts it has. That holds for a host that never answers, for one that answers just in time, and for one that
 * answers late every second time, since quick answers pay nothing off. A host that was slow once is asked in haste
 * again within ten minutes.
 *
 * Debt of an owner: what a host comes to owe for questions in haste, its owner (`host-owner.ts`) owes as well, and pays
 * off five times as fast. All hosts below one domain together get half of a place; without this limit each new host
 * name would get a slow question of its own. Half a place is what four hosts that never answer take, so the other hosts
 * of a large owner do not suffer for a few.
 *
 * Where nobody waits, an owner has one question at a time (`BusyOwnerError`). Questions there that are never answered
 * are a debt of their own, of the host and of its owner: a silent host gets a fiftieth of such a place over time, and
 * all silent hosts of one owner together an eighth, however many accounts they have. Without this debt, as many silent
 * owners as there are such places would hold them all for ever. What is answered there, however late, is no such debt:
 * the account leaves the queue. But of the owners whose questions there took long of late, answered or not, two are
 * asked there at a time. Without this, as many owners that answer just in time as there are such places would hold them
 * all for as long as they have accounts.
 *
 * Time that is spent waiting before the host is asked, or after it has answered, counts as ours: nobody owes it.
 *
 * Each process keeps this for itself. It is bounded in the hosts that it remembers and in what is under way.
 */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { remember } from '@sluice/runtime/remember.ts'

/**
 * The host was not asked: it, or its owner with all its hosts together, owes too much time to be asked in a place that
 * others wait for.
 */
export class SlowHostError extends TransientError {
  override name = 'SlowHostError'
}

/**
 * The host was not asked in one of the places that nobody waits for: a host of the same owner is being asked there, or
 * has been silent there too often (then `retryAfterMs` tells for how long it is not asked); or the owner was late
 * there, and as many of those that were are being asked.
 */
export class BusyOwnerError extends TransientError {
  override name = 'BusyOwnerError'
}

interface Terms {
  /** With a larger debt the host is not asked in haste. */
  owedMs: number
  /** The debt never grows beyond this. */
  owedMaxMs: number
  /** The part of each second that is paid off. */
  paid: number
}

/** An answer may take this long without any debt. */
const SOON_MS = 1_000
/**
 * `owedMs` is half of one question that is never answered. From the maximum, a host that answers again is asked in
 * haste after nine minutes.
 */
const OF_HOST: Terms = { owedMs: 5_000, owedMaxMs: 60_000, paid: 0.1 }
/**
 * `owedMs` is what all questions that checks and deletions ask at the same time come to, if all of them are to one host
 * that never answers. From the maximum, hosts of the owner are asked in haste again after six minutes.
 */
const OF_OWNER: Terms = { owedMs: 60_000, owedMaxMs: 240_000, paid: 0.5 }
/**
 * For questions that nobody waits for and that are never answered. From the maximum, a host is asked again after eight
 * minutes.
 */
const OF_SILENT_HOST: Terms = { owedMs: 10_000, owedMaxMs: 20_000, paid: 0.02 }
/** Six hosts that never answer leave the other hosts of their owner as they are. */
const OF_SILENT_OWNER: Terms = { owedMs: 20_000, owedMaxMs: 40_000, paid: 0.125 }
/**
 * For questions that nobody waits for and that took long, answered or not. The third one that comes just in time is too
 * much; an owner that pays all the time has a twentieth of such a place. From the maximum, it counts as late for nearly
 * seven minutes more.
 */
const OF_LATE_OWNER: Terms = { owedMs: 20_000, owedMaxMs: 40_000, paid: 0.05 }
/**
 * How many owners that were late are asked at the same time where nobody waits. Account checks and deletions have four
 * such places each, so at least two of each are left to others.
 */
const LATE_AT_ONCE = 2
/** How many hosts are remembered, and as many owners; about 100 bytes each. */
const REMEMBERED = 10_000

export class HostPace {
  readonly #now: () => number
  readonly #hosts: Debts
  readonly #owners: Debts
  readonly #silentHosts: Debts
  readonly #silentOwners: Debts
  readonly #lateOwners: Debts
  /** Owners of whose hosts one is being asked in a place that nobody waits for. */
  readonly #busy = new Set<string>()

  constructor(now = () => performance.now()) {
    this.#now = now
    this.#hosts = new Debts(OF_HOST, now)
    this.#owners = new Debts(OF_OWNER, now)
    this.#silentHosts = new Debts(OF_SILENT_HOST, now)
    this.#silentOwners = new Debts(OF_SILENT_OWNER, now)
    this.#lateOwners = new Debts(OF_LATE_OWNER, now)
  }

  /**
   * Asks the host.
   * @param inHaste whether others wait for this place
   * @throws SlowHostError when in haste, else BusyOwnerError; whatever `ask` throws
   */
  async ask<T>(host: string, inHaste: boolean, ask: () => Promise<T>): Promise<T> {
    return await this.askInTurn(host, inHaste, (watch) => {
      watch.asked()
      return ask()
    })
  }

  /**
   * Like `ask`, for questions in which the host is asked only after a wait, or not at all.
   * @param ask tells `watch` when the host is asked, and when it has answered
   */
  async askInTurn<T>(host: string, inHaste: boolean, ask: (watch: AskingWatch) => Promise<T>): Promise<T> {
    const owner = ownerOf(host)
    if (inHaste && this.#hosts.owesTooMuch(host)) throw new SlowHostError(`${host} was slow of late`)
    if (inHaste && this.#owners.owesTooMuch(owner)) throw new SlowHostError(`hosts of ${owner} were slow of late`)
    if (inHaste) return await this.#timed({ host, owner, inHaste }, ask)
    this.assertFree(host)
    this.#busy.add(owner)
    try {
      return await this.#timed({ host, owner, inHaste }, ask)
    } finally {
      this.#busy.delete(owner)
    }
  }

  /** @throws BusyOwnerError when the host may not be asked now in a place that nobody waits for */
  assertFree(host: string | undefined): void {
    if (host === undefined) return
    const owner = ownerOf(host)
    if (this.#busy.has(owner)) throw new BusyOwnerError(`a host of ${owner} is being asked`)
    const retryAfterMs = Math.max(this.#silentHosts.untilAskedMs(host), this.#silentOwners.untilAskedMs(owner))
    if (retryAfterMs > 0)
      throw new BusyOwnerError(`${host}, or hosts of ${owner}, were silent of late`, { retryAfterMs })
    const isLate = (one: string): boolean => this.#lateOwners.owesTooMuch(one)
    if (isLate(owner) && [...this.#busy].filter(isLate).length >= LATE_AT_ONCE)
      throw new BusyOwnerError(
        `hosts of ${owner} were late, and ${LATE_AT_ONCE} other owners that were are being asked`,
      )
  }

  async #timed<T>(
    { host, owner, inHaste }: { host: string; owner: string; inHaste: boolean },
    ask: (watch: AskingWatch) => Promise<T>,
  ): Promise<T> {
    let askedAt: number | undefined
    let answeredAt: number | undefined
    const watch: AskingWatch = {
      asked: () => void (askedAt ??= this.#now()),
      answered: () => void (answeredAt ??= this.#now()),
    }
    let isAnswered = false
    try {
      const answer = await ask(watch)
      isAnswered = true
      return answer
    } finally {
      const lateMs = askedAt === undefined ? 0 : (answeredAt ?? this.#now()) - askedAt - SOON_MS
      if (lateMs > 0) {
        this.#hosts.owe(host, lateMs)
        if (inHaste) this.#owners.owe(owner, lateMs)
        else this.#lateOwners.owe(owner, lateMs)
        if (!inHaste && !isAnswered) {
          this.#silentHosts.owe(host, lateMs)
          this.#silentOwners.owe(owner, lateMs)
        }
      }
    }
  }
}

class Debts {
  readonly #terms: Terms
  readonly #now: () => number
  /** What each host or owner owed at `atMs` (monotonic ms). The one that was updated last is at the end. */
  readonly #debts = new Map<string, { owedMs: number; atMs: number }>()

  constructor(terms: Terms, now: () => number) {
    this.#terms = terms
    this.#now = now
  }

  owesTooMuch(name: string): boolean {
    return this.#owedMs(name) > this.#terms.owedMs
  }

  /** For how many ms the debt stays too large; 0 when it is not. */
  untilAskedMs(name: string): number {
    const { owedMs, paid } = this.#terms
    return Math.max(0, Math.ceil((this.#owedMs(name) - owedMs) / paid))
  }

  owe(name: string, ms: number): void {
    const owedMs = Math.min(this.#terms.owedMaxMs, this.#owedMs(name) + ms)
    remember(this.#debts, name, { owedMs, atMs: this.#now() }, REMEMBERED)
  }

  #owedMs(name: string): number {
    const debt = this.#debts.get(name)
    return debt === undefined ? 0 : Math.max(0, debt.owedMs - (this.#now() - debt.atMs) * this.#terms.paid)
  }
}

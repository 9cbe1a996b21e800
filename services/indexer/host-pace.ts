/**
 * Who keeps others waiting: what a host's answer takes beyond a moment is time that it owes, and pays off slowly. While it owes too much, it is asked in no place that
 * others wait for, but among the hosts that do not answer.
 *
 * So a host has a tenth of a place of that kind, and once more as many questions as were under way at the same time, however many accounts it has: one that never answers,
 * one that answers just in time, and one that does so every second time, since answers that come soon pay nothing off. Who was slow for once is back within ten minutes.
 *
 * What a host owes of its questions in such places, its owner (`host-owner.ts`) owes as well, and pays off five times as fast: all hosts below one domain have half of a
 * place, or each new one would have a slow question. That is as much as four hosts take that never answer, so that the others of a large owner do not suffer for a few.
 *
 * In the places that nobody waits for an owner has one question at a time: one that is silent holds one of them, however many accounts it has, and those of others come to their turn.
 *
 * What is waited for before the host is asked, or after it has answered, is ours, and nobody owes it.
 *
 * Kept by each process for itself. Bounded: the hosts that are remembered, and what is under way.
 */
import type { AskingWatch } from '@sluice/atproto/flight.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import { TransientError } from '@sluice/runtime/errors.ts'

/** The host, or its owner with all hosts together, owes too much time to be asked in a place that others wait for: it was not asked. */
export class SlowHostError extends TransientError {
  override name = 'SlowHostError'
}

/** A host of its owner is being asked, in one of the places that nobody waits for: this one was not. */
export class BusyOwnerError extends TransientError {
  override name = 'BusyOwnerError'
}

interface Terms {
  /** With more it is not asked in haste. */
  owedMs: number
  /** At most. */
  owedMaxMs: number
  /** Paid off, of each second. */
  paid: number
}

/** What an answer may take. */
const SOON_MS = 1_000
/** Half of one question that it never answers; a host that answers again is asked in haste after nine minutes. */
const OF_HOST: Terms = { owedMs: 5_000, owedMaxMs: 60_000, paid: 0.1 }
/** As many of these as are asked at once, of checks and deletions together, all of one host; back after six minutes. */
const OF_OWNER: Terms = { owedMs: 60_000, owedMaxMs: 240_000, paid: 0.5 }
/** Hosts, and as many owners; about 100 bytes each. */
const REMEMBERED = 10_000

export class HostPace {
  readonly #now: () => number
  readonly #hosts: Debts
  readonly #owners: Debts
  /** Whose hosts are being asked in places that nobody waits for. */
  readonly #busy = new Set<string>()

  constructor(now = () => performance.now()) {
    this.#now = now
    this.#hosts = new Debts(OF_HOST, now)
    this.#owners = new Debts(OF_OWNER, now)
  }

  /** Asks the host. @param inHaste others wait for this place @throws SlowHostError in haste, else BusyOwnerError; what `ask` throws */
  async ask<T>(host: string, inHaste: boolean, ask: () => Promise<T>): Promise<T> {
    return await this.askInTurn(host, inHaste, (watch) => {
      watch.asked()
      return ask()
    })
  }

  /** As `ask`, where the host is not asked at once, or not at all. @param ask tells when it is, and when it has answered */
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

  /** @throws BusyOwnerError when a question that is not asked in haste would find its owner's place taken */
  assertFree(host: string | undefined): void {
    const owner = host === undefined ? undefined : ownerOf(host)
    if (owner !== undefined && this.#busy.has(owner)) throw new BusyOwnerError(`a host of ${owner} is being asked`)
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
    try {
      return await ask(watch)
    } finally {
      const lateMs = askedAt === undefined ? 0 : (answeredAt ?? this.#now()) - askedAt - SOON_MS
      if (lateMs > 0) {
        this.#hosts.owe(host, lateMs)
        if (inHaste) this.#owners.owe(owner, lateMs)
      }
    }
  }
}

class Debts {
  readonly #terms: Terms
  readonly #now: () => number
  /** What each owed at a time (ms, monotonic). The latest at the end. */
  readonly #debts = new Map<string, { owedMs: number; atMs: number }>()

  constructor(terms: Terms, now: () => number) {
    this.#terms = terms
    this.#now = now
  }

  owesTooMuch(name: string): boolean {
    return this.#owedMs(name) > this.#terms.owedMs
  }

  owe(name: string, ms: number): void {
    const owedMs = Math.min(this.#terms.owedMaxMs, this.#owedMs(name) + ms)
    this.#debts.delete(name)
    this.#debts.set(name, { owedMs, atMs: this.#now() })
    if (this.#debts.size > REMEMBERED) this.#debts.delete(this.#debts.keys().next().value!)
  }

  #owedMs(name: string): number {
    const debt = this.#debts.get(name)
    return debt === undefined ? 0 : Math.max(0, debt.owedMs - (this.#now() - debt.atMs) * this.#terms.paid)
  }
}

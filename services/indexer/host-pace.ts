/**
 * Who keeps others waiting: what a host's answer takes beyond a moment is time that it owes, and pays off slowly. While it owes too much, it is asked in no place that
 * others wait for, but among the hosts that do not answer.
 *
 * So a host has a tenth of a place of that kind, and once more as many questions as were under way at the same time, however many accounts it has: one that never answers,
 * one that answers just in time, and one that does so every second time, since answers that come soon pay nothing off. Who was slow for once is back within ten minutes.
 *
 * Kept by each process for itself. Bounded: the hosts that are remembered.
 */
import { TransientError } from '@sluice/runtime/errors.ts'

/** The host owes too much time to be asked in a place that others wait for: it was not asked. */
export class SlowHostError extends TransientError {
  override name = 'SlowHostError'
}

/** What an answer may take. */
const SOON_MS = 1_000
/** With more it is not asked in haste: about half of one question that it never answers. */
const OWED_MS = 5_000
/** At most; so a host that answers again is asked in haste after nine minutes. */
const OWED_MAX_MS = 60_000
/** Paid off, of each second. */
const PAID = 0.1
/** Hosts; about 100 bytes each. */
const REMEMBERED = 10_000

export class HostPace {
  readonly #now: () => number
  /** What each host owed at a time (ms, monotonic). The latest at the end. */
  readonly #debts = new Map<string, { owedMs: number; atMs: number }>()

  constructor(now = () => performance.now()) {
    this.#now = now
  }

  /** Asks the host. @param inHaste others wait for this place @throws SlowHostError; what `ask` throws */
  async ask<T>(host: string, inHaste: boolean, ask: () => Promise<T>): Promise<T> {
    if (inHaste && this.#owedMs(host) > OWED_MS) throw new SlowHostError(`${host} was slow of late`)
    const began = this.#now()
    try {
      return await ask()
    } finally {
      const lateMs = this.#now() - began - SOON_MS
      if (lateMs > 0) this.#owe(host, lateMs)
    }
  }

  #owedMs(host: string): number {
    const debt = this.#debts.get(host)
    return debt === undefined ? 0 : Math.max(0, debt.owedMs - (this.#now() - debt.atMs) * PAID)
  }

  #owe(host: string, ms: number): void {
    const owedMs = Math.min(OWED_MAX_MS, this.#owedMs(host) + ms)
    this.#debts.delete(host)
    this.#debts.set(host, { owedMs, atMs: this.#now() })
    if (this.#debts.size > REMEMBERED) this.#debts.delete(this.#debts.keys().next().value!)
  }
}

/**
 * Whether the process does its work, as its parts report it. Each part blocks under its own name, with a reason for
 * people, and clears that name when it works again. The process is ready when no name blocks.
 */
import { redact, type Redactor } from './redact.ts'

export class Readiness {
  readonly #reasons = new Map<string, string>()
  readonly #lags = new Map<string, number>()
  readonly #redact: Redactor

  /** @param redactor removes secrets from reasons, which often quote an error that quotes a URL */
  constructor(redactor: Redactor = redact) {
    this.#redact = redactor
  }

  /** Says that `name` keeps the process from working. A later reason of the same name replaces the earlier one. */
  block(name: string, reason: string): void {
    this.#reasons.set(name, this.#redact(reason))
  }

  clear(name: string): void {
    this.#reasons.delete(name)
  }

  /** Reports how far behind one input is; the worst is shown. @param seconds age of the oldest event not yet done */
  setLag(name: string, seconds: number): void {
    this.#lags.set(name, seconds)
  }

  get ready(): boolean {
    return this.#reasons.size === 0
  }

  /** `name: reason` of everything that blocks, oldest first. */
  get reasons(): string[] {
    return [...this.#reasons].map(([name, reason]) => `${name}: ${reason}`)
  }

  /** The worst lag that was reported; undefined when no part measures one. */
  get lagSeconds(): number | undefined {
    return this.#lags.size === 0 ? undefined : Math.max(...this.#lags.values())
  }
}

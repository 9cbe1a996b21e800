/**
 * Hosts that asked for a pause (429). When several hosts below one domain ask for a pause and none below it answers
 * meanwhile, the whole domain is paused: millions of handles may be names of one host. A pause of a single host applies
 * to that host alone. Otherwise anybody's host below `co.uk` could pause all of `co.uk`; and four such hosts could, if
 * answers of the other hosts below it did not count.
 */
import { remember } from '@sluice/runtime/remember.ts'

export interface DomainPausesOptions {
  /** How many hosts must ask for a pause to pause their domain. */
  hostsOfDomain?: number
  /** How many hosts and domains are remembered. */
  remembered?: number
  now?: () => number
}

interface Pause {
  untilMs: number
  /**
   * Of a domain: the hosts below it that asked for a pause since the domain's last pause began, or since a host below
   * it answered.
   */
  hosts: Set<string>
}

export class DomainPauses {
  readonly #options: Required<DomainPausesOptions>
  /** Oldest first. */
  readonly #pauses = new Map<string, Pause>()

  constructor(options: DomainPausesOptions = {}) {
    this.#options = { hostsOfDomain: 4, remembered: 10_000, now: Date.now, ...options }
  }

  /**
   * `host` has asked for a pause of `ms`. It is never made shorter: this may be the answer to a request that was under
   * way when the host asked for a longer one.
   */
  add(host: string, ms: number): void {
    const untilMs = this.#options.now() + ms
    this.#put(host, { untilMs: Math.max(untilMs, this.#pauses.get(host)?.untilMs ?? 0), hosts: new Set() })
    const domain = domainOf(host)
    if (domain === undefined) return
    const { hosts, untilMs: before } = this.#pauses.get(domain) ?? { hosts: new Set(), untilMs: 0 }
    hosts.add(host)
    const isWhole = hosts.size >= this.#options.hostsOfDomain
    this.#put(domain, isWhole ? { untilMs: Math.max(untilMs, before), hosts: new Set() } : { untilMs: before, hosts })
  }

  /** `host` has answered: the pauses of other hosts below its domain no longer count for the domain. */
  answered(host: string): void {
    const domain = domainOf(host)
    if (domain !== undefined) this.#pauses.get(domain)?.hosts.clear()
  }

  /** For how many ms `host` must not be asked. 0: it may be asked. */
  leftMs(host: string): number {
    const domain = domainOf(host)
    const untilMs = Math.max(
      this.#pauses.get(host)?.untilMs ?? 0,
      domain === undefined ? 0 : (this.#pauses.get(domain)?.untilMs ?? 0),
    )
    return Math.max(0, untilMs - this.#options.now())
  }

  #put(name: string, pause: Pause): void {
    remember(this.#pauses, name, pause, this.#options.remembered)
  }
}

/** The domain that contains the host: its name without the first label. Undefined when that is a top-level domain. */
function domainOf(host: string): string | undefined {
  const domain = host.slice(host.indexOf('.') + 1)
  return domain.includes('.') ? domain : undefined
}

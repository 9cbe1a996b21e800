/**
 * Hosts that want to be left alone. When several below one domain say so, and none there answers meanwhile, the whole domain is: millions of handles may be names of one host. A
 * single one speaks for itself alone, or anybody's host would silence all of `co.uk`, and so would anybody's four if the others that are asked there did not count.
 */
export interface DomainPausesOptions {
  /** How many hosts speak for their domain. */
  hostsOfDomain?: number
  /** How many names are remembered. */
  remembered?: number
  now?: () => number
}

interface Pause {
  untilMs: number
  /** Hosts below that said so since the last pause began, or another answered. */
  hosts: Set<string>
}

export class DomainPauses {
  readonly #options: Required<DomainPausesOptions>
  /** Oldest first. */
  readonly #pauses = new Map<string, Pause>()

  constructor(options: DomainPausesOptions = {}) {
    this.#options = { hostsOfDomain: 4, remembered: 10_000, now: Date.now, ...options }
  }

  /** `host` wants to be left alone for `ms`. */
  add(host: string, ms: number): void {
    const untilMs = this.#options.now() + ms
    this.#put(host, { untilMs, hosts: new Set() })
    const domain = domainOf(host)
    if (domain === undefined) return
    const { hosts, untilMs: before } = this.#pauses.get(domain) ?? { hosts: new Set(), untilMs: 0 }
    hosts.add(host)
    const isWhole = hosts.size >= this.#options.hostsOfDomain
    this.#put(domain, isWhole ? { untilMs, hosts: new Set() } : { untilMs: before, hosts })
  }

  /** `host` has answered: what others said speaks for themselves alone. */
  answered(host: string): void {
    const domain = domainOf(host)
    if (domain !== undefined) this.#pauses.get(domain)?.hosts.clear()
  }

  /** For how long nothing may be asked of `host`; 0: it may be asked. */
  leftMs(host: string): number {
    const domain = domainOf(host)
    const untilMs = Math.max(
      this.#pauses.get(host)?.untilMs ?? 0,
      domain === undefined ? 0 : (this.#pauses.get(domain)?.untilMs ?? 0),
    )
    return Math.max(0, untilMs - this.#options.now())
  }

  #put(name: string, pause: Pause): void {
    this.#pauses.delete(name)
    this.#pauses.set(name, pause)
    if (this.#pauses.size > this.#options.remembered) this.#pauses.delete(this.#pauses.keys().next().value!)
  }
}

/** What a name is one of many below of; undefined below a top-level domain. */
function domainOf(host: string): string | undefined {
  const domain = host.slice(host.indexOf('.') + 1)
  return domain.includes('.') ? domain : undefined
}

/**
 * Resolves host names that strangers choose. Anybody can name a host whose name server never answers.
 *
 * `dns.lookup` calls getaddrinfo on the thread pool. At most half of the threads (two of four) look up names, and a
 * silent name server holds a thread for 10 s. So a good name behind eight bad ones was found after 40 s, and lookups
 * for the PLC directory and Redis wait behind them too. c-ares uses sockets of the event loop, where no name waits for
 * another: the good name took 0.1 s.
 *
 * As getaddrinfo does, this reads /etc/hosts before it asks DNS, and asks only for kinds of addresses (IPv4, IPv6) that
 * the machine has. Search domains, mDNS and the like are not used: they know no host of the public network.
 */
import { promises as dns, type LookupAddress } from 'node:dns'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'

export interface DnsOptions {
  /** The timeout of the first of two tries. */
  timeoutMs: number
  /** Name servers (`address` or `address:port`) instead of the system's. */
  nameservers?: readonly string[] | undefined
}

/**
 * A resolver for the questions about one name: two tries, the second with twice the timeout. Do not reuse it for other
 * names, for two reasons. c-ares (1.34) applies `timeout` only until its first answer; later it measures the server,
 * and gives up after 2 s with a server that is usually quick. And a resolver keeps name servers that resolv.conf no
 * longer names.
 */
export function resolverOf({ timeoutMs, nameservers }: DnsOptions): dns.Resolver {
  const resolver = new dns.Resolver({ timeout: timeoutMs, tries: 2 })
  if (nameservers !== undefined) resolver.setServers(nameservers)
  return resolver
}

/**
 * Whether the error is an answer of DNS: there is no such name, or the name has no record of the kind asked for. False
 * for a failure.
 */
export function isNotThere(error: unknown): boolean {
  return error instanceof Error && NOT_THERE.has((error as NodeJS.ErrnoException).code ?? '')
}

const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA'])

/**
 * Whether the error is one of DNS, an answer or a failure: of a name server, of the way to it, or for a name that
 * cannot be asked for. False for faults of ours.
 */
export function isOfDns(error: unknown): boolean {
  return error instanceof Error && OF_DNS.has((error as NodeJS.ErrnoException).code)
}

/** `dns.SERVFAIL` and the like. */
const OF_DNS: ReadonlySet<unknown> = new Set(Object.values(dns).filter((value) => typeof value === 'string'))
/**
 * The timeout of the first try. The second try ends after 6 s in all, when the connection that needs the address is
 * given up (`connectMs` of http.ts).
 */
export const DNS_MS = 2_000
const HOSTS_FILE = '/etc/hosts'

type Family = 4 | 6

export interface HostNamesOptions extends Partial<DnsOptions> {
  hostsFile?: string
  /** The kinds of addresses to ask for. Default: those that the machine has. */
  families?: readonly Family[]
}

export class HostNames {
  readonly #options: DnsOptions
  readonly #hosts: HostsFile
  readonly #families: () => readonly Family[]
  readonly #flights = new Map<string, Promise<LookupAddress[]>>()

  constructor({ hostsFile = HOSTS_FILE, families, timeoutMs = DNS_MS, nameservers }: HostNamesOptions = {}) {
    this.#options = { timeoutMs, nameservers }
    this.#hosts = new HostsFile(hostsFile)
    this.#families = families === undefined ? familiesHere : () => families
  }

  /**
   * The addresses of a name, IPv6 first. Requests for the same name share one flight.
   * @throws Error with a code of c-ares; see `isNotThere`
   */
  addressesOf(name: string): Promise<LookupAddress[]> {
    const underWay = this.#flights.get(name)
    if (underWay !== undefined) return underWay
    const flight = this.#ask(name).finally(() => this.#flights.delete(name))
    this.#flights.set(name, flight)
    return flight
  }

  async #ask(name: string): Promise<LookupAddress[]> {
    const known = this.#hosts.addressesOf(name)
    if (known !== undefined) return known
    const resolver = resolverOf(this.#options)
    const ask = async (family: Family): Promise<LookupAddress[]> => {
      const addresses = await (family === 4 ? resolver.resolve4(name) : resolver.resolve6(name))
      return addresses.map((address) => ({ address, family }))
    }
    const answers = await Promise.allSettled(this.#families().map(ask))
    const addresses = answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
    if (addresses.length > 0) return addresses
    const errors = answers.flatMap((answer) => (answer.status === 'rejected' ? [answer.reason as Error] : []))
    // A failure for one kind of address does not mean that the name has no such address, so the failure is thrown.
    throw errors.find((error) => !isNotThere(error)) ?? errors[0]!
  }
}

/**
 * The kinds of addresses that the machine has, as getaddrinfo with AI_ADDRCONFIG, but a private IPv6 address does not
 * count. `net` tries the addresses in turn and gives each but the last 250 ms (Happy Eyeballs). With an unreachable
 * address last, a reachable one before it that takes longer than 250 ms would be given up.
 */
function familiesHere(): readonly Family[] {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  const reaching = own.filter(({ internal, address }) => !internal && !/^f[cde]/i.test(address))
  const families = ([6, 4] as const).filter((family) => reaching.some((one) => one.family === `IPv${family}`))
  return families.length > 0 ? families : [6, 4]
}

/**
 * /etc/hosts. The file is small and local, so it is read synchronously; and read again when it has changed (Docker and
 * Kubernetes write it after the start).
 */
class HostsFile {
  readonly #path: string
  #modifiedMs = Number.NaN
  #addresses: ReadonlyMap<string, LookupAddress[]> = new Map()

  constructor(path: string) {
    this.#path = path
  }

  addressesOf(name: string): LookupAddress[] | undefined {
    try {
      const { mtimeMs } = statSync(this.#path)
      if (mtimeMs !== this.#modifiedMs) this.#addresses = parseHosts(readFileSync(this.#path, 'utf8'))
      this.#modifiedMs = mtimeMs
    } catch {
      this.#addresses = new Map() // the file need not exist
      this.#modifiedMs = Number.NaN
    }
    return this.#addresses.get(name)
  }
}

/** Parses the format of hosts(5): each line has an address and its names. */
function parseHosts(text: string): Map<string, LookupAddress[]> {
  const hosts = new Map<string, LookupAddress[]>()
  for (const line of text.split('\n')) {
    const [address = '', ...names] = line.replace(/#.*/, '').trim().split(/\s+/)
    const family = isIP(address)
    if (family === 0) continue
    for (const name of names.map((name) => name.toLowerCase())) {
      hosts.set(name, [...(hosts.get(name) ?? []), { address, family }])
    }
  }
  return hosts
}

/**
 * Host names that strangers choose → addresses. Anybody can name a host whose name server never answers.
 *
 * `dns.lookup` is getaddrinfo on the thread pool, where at most half of the threads (two of four) look up names, and a silent name server
 * holds one for 10 s: a good name behind eight such ones was found after 40 s, which holds up the PLC directory and Redis too. c-ares asks over
 * sockets of the event loop, where no name waits for another: 0.1 s.
 *
 * As with getaddrinfo, /etc/hosts goes before DNS, and only addresses of a kind that the machine has are asked for. Search domains, mDNS and the like are
 * not asked: they know no host of the network.
 */
import { promises as dns, type LookupAddress } from 'node:dns'
import { readFileSync, statSync } from 'node:fs'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'

export interface DnsOptions {
  /** Of the first of two tries. */
  timeoutMs: number
  /** Name servers (`address` or `address:port`) instead of the system's. */
  nameservers?: readonly string[] | undefined
}

/**
 * A resolver for the questions about one name: two tries, the second twice as long. One that is used for longer measures its server, and gives up
 * after 2 s with a server that is quick as a rule (c-ares 1.34; `timeout` counts only until its first answer). It would also keep name servers
 * that resolv.conf no longer names.
 */
export function resolverOf({ timeoutMs, nameservers }: DnsOptions): dns.Resolver {
  const resolver = new dns.Resolver({ timeout: timeoutMs, tries: 2 })
  if (nameservers !== undefined) resolver.setServers(nameservers)
  return resolver
}

/** Whether DNS says that there is no such name, or nothing of the kind under it: an answer, and no failure. */
export function isNotThere(error: unknown): boolean {
  return error instanceof Error && NOT_THERE.has((error as NodeJS.ErrnoException).code ?? '')
}

const NOT_THERE = new Set(['ENOTFOUND', 'ENODATA'])
/** Of the first try. When the second ends, after 6 s, the connection that needs the address is given up (`connectMs` of http.ts). */
export const DNS_MS = 2_000
const HOSTS_FILE = '/etc/hosts'

type Family = 4 | 6

export interface HostNamesOptions extends Partial<DnsOptions> {
  hostsFile?: string
  /** Kinds of addresses to ask for instead of those that the machine has. */
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
    // No word on one kind of address is not "there is none".
    throw errors.find((error) => !isNotThere(error)) ?? errors[0]!
  }
}

/**
 * As AI_ADDRCONFIG, and without private IPv6. Each address but the last is given 250 ms (Happy Eyeballs of `net`): one that cannot be reached must
 * not stand behind one that takes longer.
 */
function familiesHere(): readonly Family[] {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  const reaching = own.filter(({ internal, address }) => !internal && !/^f[cde]/i.test(address))
  const families = ([6, 4] as const).filter((family) => reaching.some((one) => one.family === `IPv${family}`))
  return families.length > 0 ? families : [6, 4]
}

/** The file is small, and on the machine: read on the thread, and again when it has changed (Docker and Kubernetes write it after the start). */
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
      this.#addresses = new Map() // there need not be one
      this.#modifiedMs = Number.NaN
    }
    return this.#addresses.get(name)
  }
}

/** hosts(5): an address and its names on each line. */
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

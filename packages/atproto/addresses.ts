/**
 * Which network addresses we may connect to for strangers. DID documents, handles and redirects name hosts, and anybody
 * can write these. Without this check they could make us connect to our own database, cloud metadata services and
 * neighbours (SSRF).
 *
 * Two checks are needed: a literal address in a URL is never looked up (`mayBePublic`), and a name may resolve to any
 * address (`publicLookupBy`).
 */
import type { LookupAddress, LookupOptions } from 'node:dns'
import { BlockList, isIP, isIPv4 } from 'node:net'
import { callbackify } from 'node:util'
import { HostNames } from './host-names.ts'

/** Addresses that are not public, by the registries of special-purpose addresses (RFC 6890 and its successors). */
const SPECIAL_IPV4: [string, number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
]

/** Addresses in the global unicast range that are no public hosts: Teredo and other protocols, documentation, 6to4. */
const SPECIAL_IPV6: [string, number][] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['3fff::', 20],
]

const special = new BlockList()
for (const [net, prefix] of SPECIAL_IPV4) special.addSubnet(net, prefix, 'ipv4')
for (const [net, prefix] of SPECIAL_IPV6) special.addSubnet(net, prefix, 'ipv6')
const globalIpv6 = new BlockList()
globalIpv6.addSubnet('2000::', 3, 'ipv6')

/** Whether the text is an IP address of the public internet. False for text that is no address. */
export function isPublicAddress(address: string): boolean {
  if (isIPv4(address)) return !special.check(address, 'ipv4')
  return isIP(address) === 6 && globalIpv6.check(address, 'ipv6') && !special.check(address, 'ipv6')
}

/** The IP address, when a URL's hostname is a literal address; undefined when it is a name. */
export function literalAddress(hostname: string): string | undefined {
  const bare = hostname.startsWith('[') ? hostname.slice(1, -1) : hostname
  return isIP(bare) === 0 ? undefined : bare
}

/** A name resolved to an address that is not public. */
export class PrivateAddressError extends Error {
  override name = 'PrivateAddressError'
}

/**
 * Whether a URL's host may be public: it is a name (checked by `publicLookupBy` when it is resolved), or a literal
 * public address.
 */
export function mayBePublic({ hostname }: URL): boolean {
  const literal = literalAddress(hostname)
  return literal === undefined || isPublicAddress(literal)
}

type LookupCallback = (error: Error | null, address: string | LookupAddress[], family?: number) => void

/**
 * A function like `dns.lookup` that resolves with `names`, and fails when any of the name's addresses is not public.
 * The connection uses the addresses that were checked, so there is no second lookup.
 */
export function publicLookupBy(names: HostNames) {
  return (hostname: string, options: LookupOptions, callback: LookupCallback): void =>
    lookUp(names, hostname, (error, addresses) => {
      if (error) callback(error, [])
      else if (options.all) callback(null, addresses)
      else callback(null, addresses[0]!.address, addresses[0]!.family)
    })
}

export const publicLookup = publicLookupBy(new HostNames())

const lookUp = callbackify(async (names: HostNames, hostname: string): Promise<LookupAddress[]> => {
  const addresses = await names.addressesOf(hostname)
  const hidden = addresses.find(({ address }) => !isPublicAddress(address))
  if (hidden) throw new PrivateAddressError(`${hostname} is ${hidden.address}, not a public address`)
  return addresses
})

/**
 * The owner of a host, as far as the host's name tells. The owner of a domain can have any number of hosts below it, so
 * limits for each host also apply to each owner.
 *
 * The owner is the last two labels of the name. There is no public suffix list here, since it would have to be kept up
 * to date. So all hosts below a shared suffix (`co.uk`, `github.io`) have one owner: a stranger with a host there can
 * slow down the others there, and nobody else. A person with many domains counts as many owners.
 */

/**
 * @param host in the form of `URL.host`, with or without a port.
 * @returns the last two labels of a name; a whole IPv4 address; the /64 of an IPv6 address, which is what one customer
 * usually has
 */
export function ownerOf(host: string): string {
  const name = host.replace(/:\d+$/, '')
  if (name.startsWith('[')) return networkOf(name.slice(1, -1))
  if (/^[\d.]+$/.test(name)) return name
  return name
    .split('.')
    .filter((label) => label !== '')
    .slice(-2)
    .join('.')
}

/**
 * The first four of the eight groups of an IPv6 address.
 * @param address in the form of `URL`, with `::` for groups of zeros
 */
function networkOf(address: string): string {
  const [before, after] = address.split('::').map((groups) => (groups === '' ? [] : groups.split(':')))
  const zeros = after === undefined ? [] : Array<string>(8 - before!.length - after.length).fill('0')
  return [...before!, ...zeros, ...(after ?? [])].slice(0, 4).join(':')
}

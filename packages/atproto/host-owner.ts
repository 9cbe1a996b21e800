/**
 * Whose host it is, as far as its name tells: who has a domain has as many hosts below it as they like, so what is limited for each host is limited for each owner as well.
 *
 * There is no public suffix list here, which would have to be kept up to date: an owner is the last two labels of a name. So all hosts below a suffix of which anybody may
 * have a part (`co.uk`, `github.io`) have one owner: a stranger there may slow these down, and nobody else. And whoever has many domains counts as many owners.
 */

/** @param host as `URL.host` writes it, with or without a port. @returns the last two labels; an IPv4 address whole; of an IPv6 address its /64, which is what one customer has */
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

/** The first four of the eight groups. @param address as `URL` writes it: `::` for the groups that are zero */
function networkOf(address: string): string {
  const [before, after] = address.split('::').map((groups) => (groups === '' ? [] : groups.split(':')))
  const zeros = after === undefined ? [] : Array<string>(8 - before!.length - after.length).fill('0')
  return [...before!, ...zeros, ...(after ?? [])].slice(0, 4).join(':')
}

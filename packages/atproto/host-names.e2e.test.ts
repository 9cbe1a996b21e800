import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { publicLookupBy, PrivateAddressError } from './addresses.ts'
import { HostNames, isNotThere } from './host-names.ts'
import { dnsServer, type DnsAnswer } from './testing/dns-server.ts'

const BOTH = [6, 4] as const

async function namesOf(answer: (name: string) => DnsAnswer, hosts = '') {
  const dns = await dnsServer(answer)
  const folder = await mkdtemp(join(tmpdir(), 'sluice-hosts-'))
  const hostsFile = join(folder, 'hosts')
  await writeFile(hostsFile, hosts)
  const names = new HostNames({ nameservers: [dns.address], timeoutMs: 100, families: BOTH, hostsFile })
  return {
    names,
    dns,
    hostsFile,
    async [Symbol.asyncDispose]() {
      await dns[Symbol.asyncDispose]()
      await rm(folder, { recursive: true })
    },
  }
}

const failure = (names: HostNames, name: string): Promise<unknown> =>
  names.addressesOf(name).then(
    () => undefined,
    (error: unknown) => error,
  )

const four = (address: string) => ({ address, family: 4 })
const six = (address: string) => ({ address, family: 6 })

describe('a name leads to', () => {
  test('all of its addresses', async () => {
    await using net = await namesOf(() => ({ addresses: ['8.8.8.8', '8.8.4.4', '2001:4860:4860::8888'] }))
    const addresses = await net.names.addressesOf('dns.example')
    expect(addresses).toEqual([six('2001:4860:4860::8888'), four('8.8.8.8'), four('8.8.4.4')])
  })

  test('addresses of one kind, where it has no others', async () => {
    await using net = await namesOf((name) => ({ addresses: [name === 'old.example' ? '8.8.8.8' : '2600::1'] }))
    expect(await net.names.addressesOf('old.example')).toEqual([four('8.8.8.8')])
    expect(await net.names.addressesOf('new.example')).toEqual([six('2600::1')])
  })

  test('what the hosts file says, before DNS and without it, and when that has changed', async () => {
    const hosts = '# own\n8.8.8.8 pinned.example Other.example # and more\n\n::1 pinned.example\nnonsense x.example\n'
    await using net = await namesOf(() => 'silence', hosts)
    expect(await net.names.addressesOf('pinned.example')).toEqual([four('8.8.8.8'), six('::1')])
    expect(await net.names.addressesOf('other.example')).toEqual([four('8.8.8.8')])
    await writeFile(net.hostsFile, '9.9.9.9 pinned.example')
    await expect.poll(() => net.names.addressesOf('pinned.example')).toEqual([four('9.9.9.9')])
    expect(net.dns.questions).toEqual([])
  })
})

test('who asks for a name that is being asked for gets the same answer, and who asks later a new one', async () => {
  let last = 0
  await using net = await namesOf(() => ({ addresses: [`8.8.8.${++last}`] }))
  const ask = () => net.names.addressesOf('dns.example')
  const [one, another] = await Promise.all([ask(), ask()])
  expect(one).toEqual(another)
  expect(net.dns.questions).toHaveLength(BOTH.length)
  expect(await ask()).not.toEqual(one)
})

describe('that there is no address is an answer, and no answer is none', () => {
  test.each<[string, DnsAnswer, boolean]>([
    ['no such name', 'NXDOMAIN', true],
    ['a name without addresses', { addresses: [] }, true],
    ['a name server out of order', 'SERVFAIL', false],
    ['silence', 'silence', false],
  ])('%s', async (_, answer, expected) => {
    await using net = await namesOf(() => answer)
    const error = await failure(net.names, 'a.example')
    expect(error).toBeInstanceOf(Error)
    expect(isNotThere(error)).toBe(expected)
  })
})

test.each([['10.0.0.1'], ['8.8.8.8', '10.0.0.1'], ['8.8.8.8', '::1'], ['fd00::1']])(
  'no connection is made to a name with an address that is not public: %s',
  async (...addresses) => {
    await using net = await namesOf(() => ({ addresses }))
    const looked = Promise.withResolvers<unknown>()
    publicLookupBy(net.names)('a.example', { all: true }, (error) => looked.resolve(error))
    expect(await looked.promise).toBeInstanceOf(PrivateAddressError)
  },
)

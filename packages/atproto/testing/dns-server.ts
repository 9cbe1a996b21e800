/** A name server on loopback, controlled by a test. Answers questions for texts (TXT) and addresses (A, AAAA). */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'

/** Texts, or addresses (a question for A or AAAA gets the addresses of that kind). */
export type DnsAnswer = string[] | { addresses: string[] } | 'NXDOMAIN' | 'SERVFAIL' | 'silence'

export interface DnsServer extends AsyncDisposable {
  /** `127.0.0.1:<port>` */
  address: string
  questions: string[]
}

const CODE = { NXDOMAIN: 3, SERVFAIL: 2 }
const TYPE = { A: 1, TXT: 16, AAAA: 28 }

export async function dnsServer(answer: (name: string) => DnsAnswer): Promise<DnsServer> {
  const questions: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const { name, end } = readName(query, 12)
    questions.push(name)
    const given = answer(name)
    if (given === 'silence') return
    const records = typeof given === 'string' ? [] : recordsOf(given, query.readUInt16BE(end))
    const header = Buffer.from(query.subarray(0, 12))
    header.writeUInt16BE(0x8180 | (typeof given === 'string' ? CODE[given] : 0), 2)
    header.writeUInt16BE(records.length, 6)
    header.fill(0, 8)
    socket.send(Buffer.concat([header, query.subarray(12, end + 4), ...records]), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${socket.address().port}`,
    questions,
    async [Symbol.asyncDispose]() {
      socket.close()
      await once(socket, 'close')
    },
  }
}

function recordsOf(given: string[] | { addresses: string[] }, type: number): Buffer[] {
  if (Array.isArray(given)) return type === TYPE.TXT ? given.map((text) => record(type, stringsOf(text))) : []
  const wanted = given.addresses.filter((address) => type === (isIPv4(address) ? TYPE.A : TYPE.AAAA))
  return wanted.map((address) => record(type, isIPv4(address) ? bytesOfIPv4(address) : bytesOfIPv6(address)))
}

/** Encodes a resource record for the name of the question. */
function record(type: number, data: Buffer): Buffer {
  const head = Buffer.from('c00c00000001000000000000', 'hex')
  head.writeUInt16BE(type, 2)
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
}

/** Encodes a text as strings of at most 255 bytes. */
function stringsOf(text: string): Buffer {
  const parts = text.match(/.{1,255}/gs) ?? ['']
  return Buffer.concat(parts.map((part) => Buffer.concat([Uint8Array.of(part.length), Buffer.from(part)])))
}

function bytesOfIPv4(address: string): Buffer {
  return Buffer.from(address.split('.').map(Number))
}

function bytesOfIPv6(address: string): Buffer {
  const [before = [], after = []] = address.split('::').map((part) => part.split(':').filter((word) => word !== ''))
  const zeros = Array<string>(8 - before.length - after.length).fill('0')
  return Buffer.from([...before, ...zeros, ...after].map((word) => word.padStart(4, '0')).join(''), 'hex')
}

function readName(query: Buffer, start: number): { name: string; end: number } {
  const labels: string[] = []
  let at = start
  while (query[at] !== 0) {
    labels.push(query.toString('latin1', at + 1, at + 1 + query[at]!))
    at += query[at]! + 1
  }
  return { name: labels.join('.'), end: at + 1 }
}

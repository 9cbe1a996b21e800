/** A name server on loopback that answers TXT questions as a test tells it to. */
import { createSocket } from 'node:dgram'
import { once } from 'node:events'

export type DnsAnswer = string[] | 'NXDOMAIN' | 'SERVFAIL' | 'silence'

export interface DnsServer extends AsyncDisposable {
  /** `127.0.0.1:<port>` */
  address: string
  questions: string[]
}

const CODE = { NXDOMAIN: 3, SERVFAIL: 2 }

export async function dnsServer(answer: (name: string) => DnsAnswer): Promise<DnsServer> {
  const questions: string[] = []
  const socket = createSocket('udp4')
  socket.on('message', (query, from) => {
    const { name, end } = readName(query, 12)
    questions.push(name)
    const given = answer(name)
    if (given === 'silence') return
    const texts = typeof given === 'string' ? [] : given
    const header = Buffer.from(query.subarray(0, 12))
    header.writeUInt16BE(0x8180 | (typeof given === 'string' ? CODE[given] : 0), 2)
    header.writeUInt16BE(texts.length, 6)
    header.fill(0, 8)
    socket.send(Buffer.concat([header, query.subarray(12, end + 4), ...texts.map(txtRecord)]), from.port, from.address)
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

/** A TXT record of the name asked for, in strings of at most 255 bytes. */
function txtRecord(text: string): Buffer {
  const strings = (text.match(/.{1,255}/gs) ?? ['']).map((part) =>
    Buffer.concat([Uint8Array.of(part.length), Buffer.from(part)]),
  )
  const data = Buffer.concat(strings)
  const head = Buffer.from('c00c00100001000000000000', 'hex')
  head.writeUInt16BE(data.length, 10)
  return Buffer.concat([head, data])
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

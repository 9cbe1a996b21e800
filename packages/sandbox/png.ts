/** The smallest valid pictures: one colour, any size, accepted by every program that decodes them. */
import { crc32, deflateSync } from 'node:zlib'

/** A PNG of one colour. `rgb` is 0xrrggbb. */
export function png(width: number, height: number, rgb: number): Buffer {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2], 8) // eight bits a channel, red green blue; no interlace
  const pixel = [(rgb >> 16) & 255, (rgb >> 8) & 255, rgb & 255]
  const row = Buffer.from([0, ...Array.from({ length: width }, () => pixel).flat()])
  const rows = Buffer.concat(Array.from({ length: height }, () => row))
  const signature = Buffer.from('89504e470d0a1a0a', 'hex')
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', deflateSync(rows)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const length = Buffer.alloc(4)
  length.writeUInt32BE(data.length)
  const check = Buffer.alloc(4)
  check.writeUInt32BE(crc32(body))
  return Buffer.concat([length, body, check])
}

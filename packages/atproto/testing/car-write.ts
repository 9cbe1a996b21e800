/** Writes blocks as a CAR (version 1). */
import { encodeCbor } from '../cbor-encode.ts'
import { formatCid, type Cid } from '../cid.ts'

export function writeCar(root: Cid, blocks: Iterable<readonly [Cid, Uint8Array]>): Buffer {
  const header = encodeCbor({ roots: [{ $link: formatCid(root) }], version: 1 })
  const parts: Uint8Array[] = [varint(header.length), header]
  for (const [cid, block] of blocks) {
    const bytes = Buffer.from(cid, 'latin1')
    parts.push(varint(bytes.length + block.length), bytes, block)
  }
  return Buffer.concat(parts)
}

export function varint(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Uint8Array.from([...bytes, rest])
}

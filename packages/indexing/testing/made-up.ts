/** Identifiers of the right form that stand for nothing, the same at each run. */
import { createHash } from 'node:crypto'

/** How others name a record of that version. */
export function ref({ uri, cid }: { uri: string; cid: string }): { uri: string; cid: string } {
  return { uri, cid }
}

/** A blob as a record holds it; the same content is the same blob. */
export function blob(content: string, mimeType = 'image/png'): object {
  return { $type: 'blob', ref: { $link: cidOf(content, 'bafkrei') }, mimeType, size: content.length }
}

/** A CID of the right form, the same for the same content. */
export function cidOf(content: string, prefix = 'bafyrei'): string {
  // The first letter after the prefix still holds two bits of it, and of the last one two bits must be zero.
  return `${prefix}a${hash(content).slice(0, 50)}a`
}

/** Base32 of a SHA-256, in the letters of CIDs and DIDs. */
export function hash(content: string): string {
  const bits = [...createHash('sha256').update(content).digest()]
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('')
  return (bits + '0000')
    .match(/.{5}/g)!
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[Number.parseInt(five, 2)])
    .join('')
}

/** Made-up identifiers of the right form, the same in each run. */
import { createHash } from 'node:crypto'

/** A strong reference to this version of a record. */
export function ref({ uri, cid }: { uri: string; cid: string }): { uri: string; cid: string } {
  return { uri, cid }
}

/** A blob as a record holds it; the same content is the same blob. */
export function blob(content: string, mimeType = 'image/png'): object {
  return { $type: 'blob', ref: { $link: cidOf(content, 'bafkrei') }, mimeType, size: content.length }
}

/** A CID of the right form, the same for the same content. */
export function cidOf(content: string, prefix = 'bafyrei'): string {
  // Of the letter after the prefix two bits still belong to the prefix, and two bits of the last letter must be zero:
  // so both are `a`.
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

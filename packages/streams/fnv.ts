/**
 * FNV-1a, 32 bits (draft-eastlake-fnv): a quick hash that spreads keys evenly, and nobody's secret: who chooses the keys chooses where they meet. Of a text its UTF-16 units
 * are mixed, of bytes the bytes: the same where the text is ASCII, as DIDs are. Chain records are found in Redis by it, so it never changes.
 */
export function fnv1a(key: string | Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) {
    hash = Math.imul(hash ^ (typeof key === 'string' ? key.charCodeAt(i) : key[i]!), 0x01000193)
  }
  return hash >>> 0
}

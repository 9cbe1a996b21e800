/**
 * FNV-1a, 32 bits (draft-eastlake-fnv): a quick hash that spreads keys evenly. It has no secret, so whoever chooses keys can choose that they meet. A text is hashed by its
 * UTF-16 units, which are its bytes when it is ASCII, as DIDs are. Chain records are found in Redis by it, so it never changes.
 */
export function fnv1a(key: string | Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) {
    hash = Math.imul(hash ^ (typeof key === 'string' ? key.charCodeAt(i) : key[i]!), 0x01000193)
  }
  return hash >>> 0
}

/**
 * FNV-1a, 32 bits (draft-eastlake-fnv): a quick hash that spreads keys evenly. It has no secret, so anybody who chooses
 * keys can make them collide. A string is hashed by its UTF-16 units; for ASCII text, such as a DID, these are its
 * bytes. Chain records are stored under keys made with this hash, so it must never change.
 */
export function fnv1a(key: string | Uint8Array): number {
  let hash = 0x811c9dc5
  for (let i = 0; i < key.length; i++) {
    hash = Math.imul(hash ^ (typeof key === 'string' ? key.charCodeAt(i) : key[i]!), 0x01000193)
  }
  return hash >>> 0
}

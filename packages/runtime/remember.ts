/**
 * Notes a value as the newest of a map's, and lets go of the oldest when there are more than `capacity`: many a key here is for strangers to choose, so no memory of
 * them may be without a limit.
 */
export function remember<K, V>(map: Map<K, V>, key: K, value: V, capacity: number): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > capacity) map.delete(map.keys().next().value!)
}

/**
 * Sets a key of a map as its newest, and removes the oldest when there are more than `capacity`. Strangers can choose
 * many of the keys here, so every memory of such keys must have a limit.
 */
export function remember<K, V>(map: Map<K, V>, key: K, value: V, capacity: number): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > capacity) map.delete(map.keys().next().value!)
}

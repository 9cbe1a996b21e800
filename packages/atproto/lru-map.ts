/** A map of bounded size that removes the least recently used entries. For keys that strangers choose. */
import { remember } from '@sluice/runtime/remember.ts'

export class LruMap<V> {
  readonly #capacity: number
  /** Least recently used first. */
  readonly #values = new Map<string, V>()

  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get(name: string): V | undefined {
    const value = this.#values.get(name)
    if (value === undefined) return undefined
    this.#values.delete(name)
    this.#values.set(name, value)
    return value
  }

  set(name: string, value: V): void {
    remember(this.#values, name, value, this.#capacity)
  }
}

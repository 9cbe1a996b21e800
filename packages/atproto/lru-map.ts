/** A map of bounded size, which forgets the least recently used: which keys there are is for strangers to say. */
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
    this.#values.delete(name)
    if (this.#values.size >= this.#capacity) this.#values.delete(this.#values.keys().next().value!)
    this.#values.set(name, value)
  }
}

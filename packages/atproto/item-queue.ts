/**
 * A queue, bounded in bytes, between a source that can be paused and one consumer. The consumer takes all items at
 * once.
 *
 * When the queue reaches its budget, the source is paused. It resumes when the consumer takes the items. So the
 * consumer works on one full queue while the next one fills. The item that reaches the budget is still accepted, since
 * it has already been read from the source.
 */
export class ItemQueue<T> {
  readonly #budgetBytes: number
  readonly #pause: () => void
  readonly #resume: () => void
  #items: T[] = []
  #bytes = 0
  #paused = false
  #ended = false
  #hadItems = false
  #wake: (() => void) | undefined

  constructor({ budgetBytes, pause, resume }: { budgetBytes: number; pause: () => void; resume: () => void }) {
    this.#budgetBytes = budgetBytes
    this.#pause = pause
    this.#resume = resume
  }

  get isPaused(): boolean {
    return this.#paused
  }

  /** Whether anything was ever pushed. */
  get hadItems(): boolean {
    return this.#hadItems
  }

  push(item: T, bytes: number): void {
    if (this.#ended) return
    this.#hadItems = true
    this.#items.push(item)
    this.#bytes += bytes
    if (!this.#paused && this.#bytes >= this.#budgetBytes) {
      this.#paused = true
      this.#pause()
    }
    this.#wake?.()
  }

  /**
   * Takes all items, and waits for the first one. Resolves to no items once the queue has ended. For one consumer only.
   */
  async take(): Promise<T[]> {
    while (this.#items.length === 0 && !this.#ended) {
      await new Promise<void>((resolve) => (this.#wake = resolve))
      this.#wake = undefined
    }
    const items = this.#items
    this.#items = []
    this.#bytes = 0
    if (this.#paused) {
      this.#paused = false
      this.#resume()
    }
    return items
  }

  /** Ends the queue: no more items come. The items in it can still be taken. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }
}

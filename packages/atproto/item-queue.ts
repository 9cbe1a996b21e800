/**
 * Between a source that can be paused and one consumer: a queue bounded in bytes, taken whole.
 *
 * At the budget the source is paused, and resumes when the consumer takes: it works on one budget while the next one
 * collects. The item that reaches the budget is still let in, since it has already been read.
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

  /** All that is there; waits for the first. Empty once the queue has ended. For one consumer. */
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

  /** No more items; what is there can still be taken. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }
}

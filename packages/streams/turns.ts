/** Any number of batches side by side, or a single one. Whoever wants to be alone is let in before those who came later. */
export class Turns {
  #running = 0
  #alone = false
  readonly #queue: { alone: boolean; enter: () => void }[] = []

  /** Resolves when it is our turn, which ends when the result is disposed of. */
  async enter(alone: boolean): Promise<Disposable> {
    if (this.#queue.length > 0 || !this.#fits(alone)) {
      await new Promise<void>((enter) => this.#queue.push({ alone, enter }))
    } else this.#begin(alone)
    return { [Symbol.dispose]: () => this.#end() }
  }

  #fits(alone: boolean): boolean {
    return !this.#alone && (!alone || this.#running === 0)
  }

  #begin(alone: boolean): void {
    this.#running += 1
    this.#alone = alone
  }

  #end(): void {
    this.#running -= 1
    this.#alone = false
    for (let next = this.#queue[0]; next && this.#fits(next.alone); next = this.#queue[0]) {
      this.#queue.shift()
      this.#begin(next.alone)
      next.enter()
    }
  }
}

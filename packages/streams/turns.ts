/** A fair shared/exclusive lock: any number of batches side by side, or a single one; first come, first served, so that whoever wants to be alone is not passed by those who come later. */
export class Turns {
  #running = 0
  #alone = false
  readonly #queue: { alone: boolean; enter: () => void }[] = []

  /** Resolves when it is our turn, which ends when the result is disposed of. */
  async enter(alone: boolean): Promise<Disposable> {
    if (this.wouldWait(alone)) {
      await new Promise<void>((enter) => this.#queue.push({ alone, enter }))
    } else this.#begin(alone)
    return { [Symbol.dispose]: () => this.#end() }
  }

  /** Whether somebody who comes now has to wait. */
  wouldWait(alone: boolean): boolean {
    return this.#queue.length > 0 || !this.#fits(alone)
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

/**
 * A turn that can be lent out while its owner waits for something other than work, such as an operator. Held through such a wait it would stall every other
 * stream that shares it.
 */
export class YieldableTurn implements Disposable {
  readonly #enter: () => Promise<Disposable>
  #held: Disposable | undefined
  #isOver = false
  #last: Promise<unknown> = Promise.resolve()

  private constructor(enter: () => Promise<Disposable>) {
    this.#enter = enter
  }

  /** Resolves when it is our turn. */
  static async begin(enter: () => Promise<Disposable>): Promise<YieldableTurn> {
    const turn = new YieldableTurn(enter)
    await turn.#take()
    return turn
  }

  /** What `wait` gives; others may have the turn meanwhile, and it is ours again when this resolves. One after the other: two would wait for each other. */
  async yieldTurn<T>(wait: () => Promise<T>): Promise<T> {
    const waited = this.#last.then(async () => {
      this.#give()
      // One that fails has no more to do.
      const result = await wait()
      await this.#take()
      return result
    })
    this.#last = waited.catch(() => {})
    return await waited
  }

  [Symbol.dispose](): void {
    this.#isOver = true
    this.#give()
  }

  async #take(): Promise<void> {
    this.#held = await this.#enter()
    if (this.#isOver) this.#give()
  }

  #give(): void {
    this.#held?.[Symbol.dispose]()
    this.#held = undefined
  }
}

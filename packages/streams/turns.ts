/** A shared turn may run beside any number of other shared turns; an exclusive turn runs alone. */
export type TurnKind = 'shared' | 'exclusive'

/**
 * A fair lock: first come, first served. So a caller that waits for an exclusive turn is not overtaken by callers that
 * come later.
 */
export class Turns {
  #running = 0
  #isExclusive = false
  readonly #queue: { kind: TurnKind; enter: () => void }[] = []

  /** Resolves when the caller has its turn. The turn ends when the result is disposed of. */
  async enter(kind: TurnKind): Promise<Disposable> {
    if (this.wouldWait(kind)) await new Promise<void>((enter) => this.#queue.push({ kind, enter }))
    else this.#begin(kind)
    return { [Symbol.dispose]: () => this.#end() }
  }

  /** Whether a caller that came now would have to wait. */
  wouldWait(kind: TurnKind): boolean {
    return this.#queue.length > 0 || !this.#fits(kind)
  }

  #fits(kind: TurnKind): boolean {
    return !this.#isExclusive && (kind === 'shared' || this.#running === 0)
  }

  #begin(kind: TurnKind): void {
    this.#running += 1
    this.#isExclusive = kind === 'exclusive'
  }

  #end(): void {
    this.#running -= 1
    this.#isExclusive = false
    for (let next = this.#queue[0]; next && this.#fits(next.kind); next = this.#queue[0]) {
      this.#queue.shift()
      this.#begin(next.kind)
      next.enter()
    }
  }
}

/**
 * A turn that its owner gives back while it waits for something that may never come, such as an operator, and takes
 * again afterwards. If the turn were held through such a wait, it would stall every other stream that shares it.
 */
export class YieldableTurn implements Disposable {
  readonly #enter: () => Promise<Disposable>
  #held: Disposable | undefined
  #isOver = false
  #last: Promise<unknown> = Promise.resolve()

  private constructor(enter: () => Promise<Disposable>) {
    this.#enter = enter
  }

  /** Resolves when the caller has its turn. */
  static async begin(enter: () => Promise<Disposable>): Promise<YieldableTurn> {
    const turn = new YieldableTurn(enter)
    await turn.#take()
    return turn
  }

  /**
   * Runs `wait` without the turn, and returns its result when the turn is taken again. Calls run one after the other.
   * Two at once would deadlock: the first would take the turn again, and the second would then wait for the turn that
   * its own batch holds.
   */
  async yieldTurn<T>(wait: () => Promise<T>): Promise<T> {
    const waited = this.#last.then(async () => {
      this.#give()
      // When `wait` fails the batch is over, and the turn is not taken again.
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

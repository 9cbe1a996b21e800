/**
 * One request that several callers share because they ask the same question. Tells its watchers when the other side is
 * asked and when it has answered. The rest of the request's time is ours: it waits for a free place before, and its
 * answer is stored afterwards.
 */

/**
 * Is called when the other side is asked, and when it has answered or failed. Neither call happens when the other side
 * is never asked.
 */
export interface AskingWatch {
  asked: () => void
  /** @param isAnswer false: the request failed. Default: it was answered. */
  answered: (isAnswer?: boolean) => void
}

export class Flight<T> {
  /** The result of `fly`. */
  readonly landed: Promise<T>
  readonly #watches = new Set<AskingWatch>()
  #isAsked = false
  #isAnswered = false
  #hurry: () => void = () => undefined

  /** @param fly is called at once. It must make the request to the other side inside `asking`. */
  constructor(fly: (flight: Pick<Flight<T>, 'asking' | 'onHurry'>) => Promise<T>) {
    this.landed = fly(this)
  }

  /** Sets what `hurry` does. To be called by `fly` at once, if the request can be made sooner. */
  onHurry(hurry: () => void): void {
    this.#hurry = hurry
  }

  /** One of the callers is in a hurry: has the request made sooner, if it waits. */
  hurry(): void {
    this.#hurry()
  }

  /**
   * Adds a watcher. When the other side is being asked already, `asked` is called at once. When it has answered,
   * nothing is called.
   */
  watch(watch: AskingWatch): void {
    if (this.#isAnswered) return
    this.#watches.add(watch)
    if (this.#isAsked) watch.asked()
  }

  /** Makes the request to the other side, and tells the watchers. Only for `fly`. */
  async asking<R>(ask: () => Promise<R>): Promise<R> {
    this.#isAsked = true
    for (const watch of this.#watches) watch.asked()
    let isAnswer = false
    try {
      const answer = await ask()
      isAnswer = true
      return answer
    } finally {
      this.#isAnswered = true
      for (const watch of this.#watches) watch.answered(isAnswer)
    }
  }
}

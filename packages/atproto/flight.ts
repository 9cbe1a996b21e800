/**
 * One request for all who want to know the same, and what of its time was the other side's: a request waits for a place first, and its answer is stored afterwards.
 */

/** Told when the other side is asked, and when it has answered or failed. Neither, when nobody was asked. */
export interface AskingWatch {
  asked: () => void
  /** @param isAnswer false: it failed; default: it has answered */
  answered: (isAnswer?: boolean) => void
}

export class Flight<T> {
  /** What comes of it. */
  readonly landed: Promise<T>
  readonly #watches = new Set<AskingWatch>()
  #isAsked = false
  #isAnswered = false

  /** @param fly begins it; the request itself goes through `asking` */
  constructor(fly: (asking: <R>(ask: () => Promise<R>) => Promise<R>) => Promise<T>) {
    this.landed = fly((ask) => this.#asking(ask))
  }

  /** Of one that is under way already, the rest is told. */
  watch(watch: AskingWatch): void {
    if (this.#isAnswered) return
    this.#watches.add(watch)
    if (this.#isAsked) watch.asked()
  }

  async #asking<R>(ask: () => Promise<R>): Promise<R> {
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

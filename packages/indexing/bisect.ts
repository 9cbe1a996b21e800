/**
 * Applies what can be applied: a batch that fails on its data is halved until the guilty event stands alone, and that one is handed over.
 * An outage is nobody's fault: it is waited out with the batch in hand.
 *
 * An error of no class is a fault of ours, and does not say how far it reaches: one odd record that a plugin trips over, or all of them. It is searched for
 * in the same way, but nobody is given up for it before the search has ended and enough others went through: what hits many ends the process, and every
 * entry stays where it is.
 */
import { describeError, FatalError, isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'

/** The reason of an event that was given up because of an error of no class. */
export const DEFECT = 'defect'

/** So many events must have been applied for each that is given up because of an error of no class. */
const APPLIED_PER_DEFECT = 50
/** So many are given up at a time, however many went through before. */
const DEFECTS_MAX = 3

/**
 * How many events may be given up because of an error of no class: one for each `APPLIED_PER_DEFECT` that were applied, in this batch and before, since those are the evidence that the
 * error is about the event and not about us. One per consumer, as old as the process, so an error that hits from the very first event never costs an event, however often we restart.
 */
export class DefectBudget {
  #events = 0

  /** So many events were applied. */
  applied(events: number): void {
    this.#events = Math.min(APPLIED_PER_DEFECT * DEFECTS_MAX, this.#events + events)
  }

  /** Whether so many may be given up; if so, they are paid for. */
  spend(events: number): boolean {
    if (this.#events < events * APPLIED_PER_DEFECT) return false
    this.#events -= events * APPLIED_PER_DEFECT
    return true
  }
}

type Apply<E> = (events: readonly E[]) => Promise<unknown>
type Refuse<E> = (event: E, error: RefusedError) => Promise<void>
interface Suspect<E> {
  event: E
  error: unknown
}

/**
 * Applies `events` in order, in as few parts as possible. A `RefusedError` of a single event goes to `refuse`. So does an error of no class, as a
 * `RefusedError` with its stack, when few events of the batch have one and enough others went through; otherwise it is thrown on, and nobody was given up
 * for it. Every other error is thrown on. One poison event among 1,000 costs about 20 extra transactions.
 */
export async function applyOrBisect<E>(
  events: readonly E[],
  apply: Apply<E>,
  refuse: Refuse<E>,
  defectBudget: DefectBudget,
): Promise<void> {
  const applyCounted: Apply<E> = async (part) => {
    await apply(part)
    defectBudget.applied(part.length)
  }
  const suspects: Suspect<E>[] = []
  await search(events, applyCounted, refuse, suspects)
  if (suspects.length === 0) return
  // When not even nothing can be applied, it is not about these events.
  await apply([])
  if (!defectBudget.spend(suspects.length)) throw suspects[0]!.error
  for (const { event, error } of suspects) await refuse(event, defectOf(error))
}

async function search<E>(
  events: readonly E[],
  apply: Apply<E>,
  refuse: Refuse<E>,
  suspects: Suspect<E>[],
): Promise<void> {
  if (events.length === 0) return
  try {
    await apply(events)
  } catch (error) {
    const isRefused = error instanceof RefusedError
    if (!isRefused && !hasNoClass(error)) throw error
    if (events.length > 1) {
      const middle = events.length >> 1
      await search(events.slice(0, middle), apply, refuse, suspects)
      await search(events.slice(middle), apply, refuse, suspects)
    } else if (isRefused) {
      await refuse(events[0]!, error)
    } else {
      suspects.push({ event: events[0]!, error })
      if (suspects.length > DEFECTS_MAX) throw error
    }
  }
}

/** What the operating system refuses has no class either, and is no event's doing. */
function hasNoClass(error: unknown): boolean {
  if (error instanceof TransientError || error instanceof FatalError || isAbort(error)) return false
  return !(error instanceof Error && 'syscall' in error)
}

function defectOf(error: unknown): RefusedError {
  const stack = (error instanceof Error && error.stack) || describeError(error)
  return new RefusedError(DEFECT, stack, { cause: error })
}

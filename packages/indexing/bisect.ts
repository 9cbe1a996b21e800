/**
 * Applies what can be applied. A batch that fails because of its data is halved until the guilty event stands alone;
 * that event is handed to `refuse`. An outage is no event's fault: the error is thrown, and the caller waits with the
 * batch in hand.
 *
 * An error of no class is a fault of ours. It does not tell how far the fault reaches: one odd record that a plugin
 * trips over, or all records. The search is the same, but no event is given up before the search has ended and enough
 * other events were applied. A fault that hits many events ends the process, and every entry stays in its stream.
 */
import { describeError, FatalError, isAbort, RefusedError, TransientError } from '@sluice/runtime/errors.ts'

/** The reason of an event that was given up because of an error of no class. */
export const DEFECT = 'defect'

/** How many events must have been applied for each event that is given up because of an error of no class. */
const APPLIED_PER_DEFECT = 50
/** How many events are given up at a time, at most, however many were applied before. */
const DEFECTS_MAX = 3

/**
 * How many events may be given up because of an error of no class: one for each `APPLIED_PER_DEFECT` that were applied,
 * in this batch and before. The applied events are the evidence that the error is about the event and not about our
 * code.
 *
 * There is one budget for each consumer, and it lives as long as the process. So an error that hits from the very first
 * event never costs an event, however often the process restarts.
 */
export class DefectBudget {
  #events = 0

  /** Adds events that were applied. */
  applied(events: number): void {
    this.#events = Math.min(APPLIED_PER_DEFECT * DEFECTS_MAX, this.#events + events)
  }

  /** Whether so many events may be given up. If so, deducts them from the budget. */
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
 * Applies `events` in order, in as few parts as possible. A `RefusedError` of a single event goes to `refuse`. An error
 * of no class goes there too, as a `RefusedError` with its stack, if few events of the batch have one and enough others
 * were applied. Otherwise it is thrown on, and no event is given up for it. Every other error is thrown on. One poison
 * event among 1,000 costs about 20 extra transactions.
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
  // If not even an empty batch can be applied, the error is not about these events.
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

/**
 * Whether an error has no class. An error of the operating system (`syscall`) has none either, but it is not caused by
 * an event.
 */
function hasNoClass(error: unknown): boolean {
  if (error instanceof TransientError || error instanceof FatalError || isAbort(error)) return false
  return !(error instanceof Error && 'syscall' in error)
}

function defectOf(error: unknown): RefusedError {
  const stack = (error instanceof Error && error.stack) || describeError(error)
  return new RefusedError(DEFECT, stack, { cause: error })
}

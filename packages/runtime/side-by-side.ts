/** Work on several items at once. */
import { slices } from './slices.ts'

/**
 * Runs `work` on each item, at most `concurrency` at a time; items are begun in their order. Resolves to the results,
 * in the order of the items. After a failure nothing more is begun. It rejects with the first failure when all work
 * that had begun has ended, so another try does not meet work that is left over from this one.
 */
export async function sideBySide<T, R>(
  items: readonly T[],
  concurrency: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = []
  const failures: unknown[] = []
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const at = next++
      try {
        results[at] = await work(items[at]!)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, worker))
  if (failures.length > 0) throw failures[0]
  return results
}

/** Splits the items into at most `parts` runs of about the same length; none of them is empty. */
export function shared<T>(items: readonly T[], parts: number): T[][] {
  return [...slices(items, Math.ceil(items.length / parts))]
}

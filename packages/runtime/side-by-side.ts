/** Work on several items at once. */

/**
 * Runs `work` on each item, at most `jobs` at a time; items are begun in their order. Resolves to the results, in the
 * order of the items. After a failure nothing more is begun. It rejects with the first failure when all work that had
 * begun has ended, so another try does not meet work that is left over from this one.
 */
export async function sideBySide<T, R>(items: readonly T[], jobs: number, work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = []
  const failures: unknown[] = []
  let next = 0
  const job = async (): Promise<void> => {
    while (next < items.length && failures.length === 0) {
      const at = next++
      try {
        results[at] = await work(items[at]!)
      } catch (error) {
        failures.push(error)
      }
    }
  }
  await Promise.all(Array.from({ length: Math.min(jobs, items.length) }, job))
  if (failures.length > 0) throw failures[0]
  return results
}

/** Splits the items into at most `parts` runs of about the same length; none of them is empty. */
export function shared<T>(items: readonly T[], parts: number): T[][] {
  const length = Math.ceil(items.length / parts)
  const runs: T[][] = []
  for (let at = 0; at < items.length; at += length) runs.push(items.slice(at, at + length))
  return runs
}

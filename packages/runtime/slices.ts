/**
 * Splits the items into runs of `size`, in order; the last one may be shorter, and none is empty. It reads no more
 * items than the run that it yields needs.
 */
export function* slices<T>(items: Iterable<T>, size: number): Generator<T[]> {
  let slice: T[] = []
  for (const item of items) {
    slice.push(item)
    if (slice.length < size) continue
    yield slice
    slice = []
  }
  if (slice.length > 0) yield slice
}

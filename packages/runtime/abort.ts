/**
 * Settles as the promise does, or rejects with the signal's reason as soon as it aborts. What happens to the promise
 * after that is up to the caller.
 */
export async function orAbort<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  // Each call makes its own `aborted` promise. If one promise were shared, each race would add a reaction to it that is
  // never removed.
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** What the promise gives, or the signal's reason as soon as it aborts; what becomes of the promise then is the caller's affair. */
export async function orAbort<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => reject(signal.reason)
  // Not one `aborted` promise for all: each race would add a reaction to it that stays.
  signal.addEventListener('abort', onAbort, { once: true })
  if (signal.aborted) onAbort()
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}

/** A signal that is aborted from the nth time that it is looked at. */
export function abortedAtLook(n: number): AbortSignal {
  let looks = 0
  const controller = new AbortController()
  const throwIfAborted = controller.signal.throwIfAborted.bind(controller.signal)
  return Object.assign(controller.signal, {
    throwIfAborted() {
      if (++looks >= n) controller.abort()
      throwIfAborted()
    },
  })
}

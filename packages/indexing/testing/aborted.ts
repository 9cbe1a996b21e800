/** A signal that aborts at the nth call of `throwIfAborted`. */
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

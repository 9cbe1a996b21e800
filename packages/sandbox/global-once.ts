/**
 * Vitest loads a global setup once per project, each time as a module of its own; this keeps one server for them all, in the
 * only place they share.
 */

interface Shared<T extends AsyncDisposable> {
  value: Promise<T>
  users: number
}

const REGISTRY = Symbol.for('sluice.sandbox.global')

/** The value that `start` made the first time; the last one to release it disposes of it. */
export async function onceForTheRun<T extends AsyncDisposable>(
  name: string,
  start: () => Promise<T>,
): Promise<{ value: T; release: () => Promise<void> }> {
  const registry = registryOf<T>()
  const entry = registry.get(name) ?? { value: start(), users: 0 }
  registry.set(name, entry)
  entry.users++
  const value = await entry.value
  return {
    value,
    release: async () => {
      if (--entry.users > 0) return
      registry.delete(name)
      await value[Symbol.asyncDispose]()
    },
  }
}

function registryOf<T extends AsyncDisposable>(): Map<string, Shared<T>> {
  const holder: { [REGISTRY]?: Map<string, Shared<T>> } & object = globalThis
  return (holder[REGISTRY] ??= new Map())
}

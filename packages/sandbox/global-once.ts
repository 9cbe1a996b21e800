/**
 * Vitest loads a global setup once per project, each time as a separate module. This keeps one server for all projects,
 * in the only place that these modules share: the global object.
 */

interface Shared<T extends AsyncDisposable> {
  value: Promise<T>
  users: number
}

const REGISTRY = Symbol.for('sluice.sandbox.global')

/** Returns the value that the first caller's `start` made. The last caller to release it disposes of it. */
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

/** What every fault gets to work with, and how it proves that it happened. */
import { setTimeout as delay } from 'node:timers/promises'
import type { Random } from '@sluice/sandbox/random.ts'
import type { FakeAccount } from '@sluice/sandbox/testing/fake-account.ts'
import type { Poison } from './poison.ts'
import type { Slot, System } from './system.ts'
import type { World } from './world.ts'

/** What a fault may need to itself while it lasts. */
export type Need = Slot['role'] | 'redis' | 'postgres' | 'relays' | 'labeler' | 'directory'

export interface Scene {
  system: System
  world: World
  /** Of this fault alone: faults run beside each other, and each does as the seed says. */
  random: Random
  /** What was put into streams, and must become dead letters. */
  poison: Poison[]
  /** Accounts whose fetch fails for a while; their faults must have fired by the end. */
  troubled: FakeAccount[]
  locks: Locks
}

/** A crowded machine is no fault: only what does not happen at all ends a wait. */
export const PATIENCE_MS = 180_000

/** Keeps faults of one kind apart: a Redis that is killed twice at once proves nothing. */
export class Locks {
  readonly #held = new Set<Need>()
  #waiting: (() => void)[] = []

  /** All of them at once, or none yet. */
  async take(...needs: Need[]): Promise<Disposable> {
    while (needs.some((need) => this.#held.has(need))) await new Promise<void>((resolve) => this.#waiting.push(resolve))
    for (const need of needs) this.#held.add(need)
    return { [Symbol.dispose]: () => this.#release(needs) }
  }

  #release(needs: readonly Need[]): void {
    for (const need of needs) this.#held.delete(need)
    const waiting = this.#waiting
    this.#waiting = []
    for (const wake of waiting) wake()
  }
}

/** An action that has something to itself. */
export function having<S extends Pick<Scene, 'locks'> = Scene>(
  needs: Need | readonly Need[],
  act: (scene: S) => Promise<void>,
): (scene: S) => Promise<void> {
  return async (scene) => {
    using _ = await scene.locks.take(...[needs].flat())
    await act(scene)
  }
}

/** @throws Error when it does not come to be: `otherwise` */
export async function until(probe: () => boolean | Promise<boolean>, otherwise: string): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS
  while (!(await probe())) {
    proved(Date.now() < deadline, otherwise)
    await delay(10)
  }
}

/** @throws Error when it is not so */
export function proved(isSo: boolean, otherwise: string): void {
  if (!isSo) throw new Error(`a fault did not fire: ${otherwise}`)
}

/** Faults that run beside each other: never two that need the same thing, and none waits for ever. */
import { setTimeout as delay } from 'node:timers/promises'
import { Random } from '@sluice/sandbox/random.ts'
import { expect, test } from 'vitest'
import { Locks, type Need } from './scene.ts'

const NEEDS: readonly Need[] = ['redis', 'postgres', 'relays', 'ingester']

test.for([1, 2, 3])('what one fault has to itself no other gets meanwhile, seed %i', async (seed) => {
  const random = new Random(seed)
  const locks = new Locks()
  const inUse = new Set<Need>()
  let most = 0
  const fault = async (needs: Need[], turns: number): Promise<void> => {
    using _ = await locks.take(...needs)
    for (const need of needs) {
      expect(inUse).not.toContain(need)
      inUse.add(need)
    }
    most = Math.max(most, inUse.size)
    for (let i = 0; i < turns; i++) await delay(0)
    for (const need of needs) inUse.delete(need)
  }
  const faults = Array.from({ length: 60 }, () =>
    fault(random.shuffled(NEEDS).slice(0, 1 + random.below(2)), random.below(3)),
  )
  await Promise.all(faults)
  expect(inUse.size).toBe(0)
  expect(most).toBeGreaterThan(1)
})

test('a fault that fails gives back what it had', async () => {
  const locks = new Locks()
  const failing = async (): Promise<void> => {
    using _ = await locks.take('redis')
    throw new Error('it did not fire')
  }
  await expect(failing()).rejects.toThrow('it did not fire')
  using again = await locks.take('redis', 'postgres')
  expect(again).toBeDefined()
})

import { setTimeout as sleep } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { shared, sideBySide } from './side-by-side.ts'

test('as many at a time as may be, results in the order of the items', async () => {
  let running = 0
  let most = 0
  const results = await sideBySide([5, 1, 3, 0, 2], 2, async (n) => {
    most = Math.max(most, ++running)
    await sleep(n)
    running--
    return n * 10
  })
  expect(results).toEqual([50, 10, 30, 0, 20])
  expect(most).toBe(2)
})

test('after a failure nothing begins, and what had begun has ended when it is told', async () => {
  const began: number[] = []
  const ended: number[] = []
  const slow = Promise.withResolvers<void>()
  const all = sideBySide([0, 1, 2, 3], 2, async (n) => {
    began.push(n)
    if (n === 0) throw new Error('the first')
    await slow.promise
    ended.push(n)
  })
  const told = all.then(() => 'no failure', (error: Error) => `${error.message}, ended: ${ended.join()}`) // prettier-ignore
  await sleep(5)
  expect(began).toEqual([0, 1])
  slow.resolve()
  expect(await told).toBe('the first, ended: 1')
  expect(began).toEqual([0, 1])
})

test('items are shared among parts in order, and no part is empty', () => {
  expect(shared([1, 2, 3, 4, 5], 2)).toEqual([[1, 2, 3], [4, 5]]) // prettier-ignore
  expect(shared([1, 2], 4)).toEqual([[1], [2]])
  expect(shared([], 4)).toEqual([])
})

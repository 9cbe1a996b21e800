import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { orAbort } from './abort.ts'

const never = new Promise<never>(() => {})

test('a signal that has aborted before rejects at once, with its reason', async () => {
  const reason = new Error('stopped')
  await expect(orAbort(AbortSignal.abort(reason), never)).rejects.toBe(reason)
})

test('a signal that aborts meanwhile rejects with its reason, whatever becomes of the promise', async () => {
  const stop = new AbortController()
  const slow = Promise.withResolvers<string>()
  const waiting = orAbort(stop.signal, slow.promise)
  stop.abort(new Error('stopped'))
  await expect(waiting).rejects.toThrow('stopped')
  slow.resolve('late')
})

test('what settles first counts, and nothing of it is left at a signal that lives on', async () => {
  const { signal } = new AbortController()
  expect(await orAbort(signal, Promise.resolve('done'))).toBe('done')
  await expect(orAbort(signal, Promise.reject(new Error('failed')))).rejects.toThrow('failed')
  expect(getEventListeners(signal, 'abort')).toEqual([])
})

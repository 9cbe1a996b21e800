import { expect, test } from 'vitest'
import { CarStore } from '@sluice/atproto/car-store.ts'
import { cidOf } from '@sluice/atproto/cid.ts'
import { writeCar } from '@sluice/atproto/testing/car-write.ts'
import { Budget } from '@sluice/runtime/budget.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { consequenceOf, failureOf } from './failures.ts'
import { reportOf } from './fetch-export.ts'
import { RepoMemories, SHARE_BYTES } from './repo-memory.ts'

const never = new AbortController().signal

/** What a store says that has to spool and cannot. */
function spoolError(spool: { folder?: string; disk?: Budget }): unknown {
  using store = new CarStore({ bytes: 1e8, blocks: 1e6, blockBytes: 1e6 }, { memoryBytes: 0, ...spool })
  const block = Buffer.alloc(200_000)
  try {
    store.push(writeCar(cidOf(block), [[cidOf(block), block]]))
  } catch (error) {
    return error
  }
  throw new Error('it could')
}

async function memoryError(): Promise<unknown> {
  const memories = new RepoMemories(2 * SHARE_BYTES)
  const [one, two] = [memories.tryOpen()!, memories.tryOpen()!]
  void one.hold(2 * SHARE_BYTES, never)
  return two.hold(2 * SHARE_BYTES, never).catch((error: unknown) => error)
}

test.each([
  ['the spool of all is full', () => spoolError({ disk: new Budget(1) })],
  ['the spool cannot be written', () => spoolError({ folder: '/nowhere' })],
  ['no memory is free', memoryError],
])('%s: that is not held against the host, and the repository is tried again', async (_, make) => {
  const error = await make()
  expect(error).toBeInstanceOf(Error)
  expect(reportOf(error)).toEqual({ verdict: 'nothing' })
  const entry = { did: 'did:plc:a', host: 'pds.example', rev: '', attempts: 1_000, failure: 'unavailable' }
  const limits = { retryMs: 1_000, retryMaxMs: 60_000 }
  expect(consequenceOf(entry, failureOf(error), limits)).toMatchObject({ act: 'retry' })
})

test('a host that cannot be reached is reported all the same', () => {
  expect(reportOf(new TransientError('ECONNRESET'))).toEqual({ verdict: 'failed' })
})

test('a host that is down and says for how long is parked for all, and not only for the repository that was asked for', () => {
  const error = new TransientError('503', { retryAfterMs: 60_000 })
  expect(reportOf(error)).toEqual({ verdict: 'failed', parkMs: 60_000 })
})

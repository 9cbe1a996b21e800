import { expect, test } from 'vitest'
import { createLogger } from './log.ts'
import { Readiness } from './readiness.ts'
import { Shutdown } from './shutdown.ts'

/** A shutdown with a clock of its own; signals are only told to it, not sent. */
function standing() {
  const clock = { nowMs: 0 }
  const log = createLogger({ role: 'test', build: 'b', level: 'silent' })
  const readiness = new Readiness()
  const shutdown = new Shutdown({ log, readiness, drainMs: 3_600_000, now: () => clock.nowMs })
  const work = Promise.withResolvers<void>()
  const told = { code: undefined as number | undefined }
  void shutdown.exitCodeOf(work.promise).then((code) => (told.code = code))
  const signal = async (name: 'SIGTERM' | 'SIGINT') => {
    process.emit(name)
    await new Promise((resolve) => setImmediate(resolve))
    return told.code
  }
  return { clock, readiness, shutdown, signal, work }
}

test('the first signal begins the drain, and the exit waits for the work', async () => {
  const { shutdown, readiness, signal, work } = standing()
  using _ = shutdown
  expect(shutdown.signal.aborted).toBe(false)
  expect(await signal('SIGTERM')).toBe(undefined)
  expect([shutdown.signal.aborted, readiness.reasons]).toEqual([true, ['drain: received SIGTERM']])
  work.resolve()
  expect(await shutdown.exitCodeOf(work.promise)).toBe(0)
})

test('a second signal does not wait', async () => {
  const { shutdown, clock, signal } = standing()
  using _ = shutdown
  await signal('SIGTERM')
  clock.nowMs += 101
  expect(await signal('SIGTERM')).toBe(143)
})

test('the echo of a signal, as package managers send it, is no second one; another signal is', async () => {
  const { shutdown, clock, signal } = standing()
  using _ = shutdown
  await signal('SIGINT')
  clock.nowMs += 99
  expect(await signal('SIGINT')).toBe(undefined)
  expect(await signal('SIGTERM')).toBe(143)
})

test('a signal during the drain after a failure is the first one', async () => {
  const { shutdown, signal, work } = standing()
  using _ = shutdown
  shutdown.fail('redis', new Error('x'))
  expect(await signal('SIGTERM')).toBe(undefined)
  work.resolve()
  expect(await shutdown.exitCodeOf(work.promise)).toBe(1)
})

test('work that throws is a failure', async () => {
  const { shutdown } = standing()
  using _ = shutdown
  expect(await shutdown.exitCodeOf(Promise.reject(new Error('x')))).toBe(1)
})

test('a drain begins once: what fails during it changes the exit code, and neither its reason nor its end', async () => {
  const { shutdown, readiness, signal, work } = standing()
  using _ = shutdown
  const timers = () => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  await signal('SIGTERM')
  const before = timers()
  shutdown.fail('redis', new Error('x'))
  expect([readiness.reasons, timers()]).toEqual([['drain: received SIGTERM'], before])
  work.resolve()
  expect(await shutdown.exitCodeOf(work.promise)).toBe(1)
})

import { expect, test } from 'vitest'
import { sleep } from './backoff.ts'
import { FatalError, TransientError } from './errors.ts'
import { createLogger } from './log.ts'
import { Metrics } from './metrics.ts'
import { Readiness } from './readiness.ts'
import { runServices, type Service } from './service.ts'
import { Shutdown } from './shutdown.ts'

/** A service that says when it has done what it was to do. */
interface Scripted extends Service {
  isThrough: PromiseWithResolvers<void>
}

type Line = { level: string; msg: string; [key: string]: unknown }

/**
 * Runs services, and tells what a person would have seen. They are told to stop when each `Scripted` one has done what
 * it was to do.
 */
async function run(
  services: readonly (Service | Scripted)[],
  { drainMs = 60_000, healthyAfterMs = 60_000, baseMs = 0, readiness = new Readiness() } = {},
) {
  const lines: Line[] = []
  const destination = { write: (line: string) => void lines.push(JSON.parse(line) as Line) }
  const identity = { role: 'test', build: 'b' }
  const metrics = new Metrics(identity)
  const log = createLogger({ ...identity, destination })
  using shutdown = new Shutdown({ log, readiness, drainMs })
  const restart = { baseMs, capMs: 60_000, healthyAfterMs }
  const scripted = services.flatMap((service) => ('isThrough' in service ? service.isThrough.promise : []))
  void Promise.all(scripted).then(() => shutdown.begin('the test has seen enough'))
  const code = await shutdown.exitCodeOf(runServices(services, { log, metrics, readiness, shutdown, restart }))
  return { code, lines, scrape: await metrics.render() }
}

/** Runs until it is told to stop; notes that it drained. */
function steady(log: string[], name = 'steady'): Service {
  return {
    name,
    async run(signal) {
      await sleep(3_600_000, signal).catch(() => {})
      log.push(`${name} drained`)
    },
  }
}

/** Throws each of the errors in turn, then runs until it is told to stop. */
function failing(errors: unknown[], name = 'failing'): Scripted & { runs: number } {
  return {
    name,
    runs: 0,
    isThrough: Promise.withResolvers(),
    async run(signal) {
      this.runs += 1
      const error = errors.shift()
      if (error !== undefined) throw error
      this.isThrough.resolve()
      await sleep(3_600_000, signal).catch(() => {})
    },
  }
}

test('when all services have drained, the process is done', async () => {
  expect((await run([failing([]), failing([], 'second')])).code).toBe(0)
  expect((await run([])).code).toBe(0)
})

test('a TransientError restarts the service, says so, counts it, and leaves the others alone', async () => {
  const errors = Array.from(
    { length: 3 },
    () => new TransientError('Redis is away', { cause: new Error('ECONNREFUSED') }),
  )
  const service = failing(errors)
  const other = failing([], 'other')
  const { code, lines, scrape } = await run([service, other])
  expect([code, service.runs, other.runs]).toEqual([0, 4, 1])
  const retries = lines.filter(({ msg }) => msg.startsWith('failing failed, next try in'))
  expect(retries).toHaveLength(3)
  expect(retries[0]!.error).toBe('TransientError: Redis is away ← Error: ECONNREFUSED')
  expect(scrape).toContain('sluice_service_restarts_total{service="failing"} 3')
  expect(scrape).toContain('sluice_service_restarts_total{service="other"} 0')
})

test('while a service waits for its restart the process is not ready, and it is again once the service runs well', async () => {
  const readiness = new Readiness()
  const seen: string[][] = []
  let runs = 0
  const service: Scripted = {
    name: 'flaky',
    isThrough: Promise.withResolvers(),
    async run(signal) {
      runs += 1
      seen.push(readiness.reasons)
      // The wait is longer than what counts as running well: waiting is not running.
      if (runs < 3) throw new TransientError('away', { retryAfterMs: 120 })
      while (!readiness.ready) await sleep(1, signal)
      seen.push(readiness.reasons)
      this.isThrough.resolve()
      await sleep(3_600_000, signal).catch(() => {})
    },
  }
  await run([service], { readiness, healthyAfterMs: 50 })
  const waiting = ['service flaky: starts again after: TransientError: away']
  expect(seen).toEqual([[], waiting, waiting, []])
})

test('the wait before a restart is as long as the other side asked for, and a stop ends it', async () => {
  const service = failing([new TransientError('busy', { retryAfterMs: 3_600_000 })])
  const fatal: Service = {
    name: 'fatal',
    async run(signal) {
      while (service.runs === 0) await sleep(1, signal)
      // Whoever does not wait has run again by now.
      await sleep(20, signal)
      throw new FatalError('x')
    },
  }
  const { code, lines } = await run([service, fatal])
  expect([code, service.runs]).toEqual([1, 1])
  expect(lines.find(({ msg }) => msg.startsWith('failing failed'))).toMatchObject({ delayMs: 3_600_000 })
})

test('an AbortError is how a service ends when it is told to, and a failure like others when nobody told it', async () => {
  const log: string[] = []
  const aborted: Service = { name: 'aborted', run: (signal) => sleep(3_600_000, signal) }
  const stopped = await run([aborted, failing([new FatalError('x')])])
  expect(stopped.lines.filter(({ level }) => level === 'fatal').map(({ msg }) => msg)).toEqual(['failing failed'])
  const alone = await run([steady(log), failing([new DOMException('a request was aborted', 'AbortError')])])
  expect([alone.code, log]).toEqual([1, ['steady drained']])
})

test('a failure after a good while waits as if it were the first', async () => {
  const errors = Array.from({ length: 12 }, () => new TransientError('away'))
  const { lines } = await run([failing(errors)], { baseMs: 1, healthyAfterMs: 0 })
  const delays = lines.flatMap(({ delayMs }) => (delayMs === undefined ? [] : (delayMs as number)))
  expect(delays).toHaveLength(12)
  expect(Math.max(...delays)).toBeLessThanOrEqual(1)
})

test.each([
  ['a FatalError', new FatalError('the schema is newer than this build'), 'error'],
  ['an error of no class', new TypeError('x is undefined'), 'err'],
  ['something that is no error', 'oops', 'err'],
])('%s drains the others and ends with exit code 1', async (_, error, field) => {
  const log: string[] = []
  const { code, lines } = await run([steady(log), failing([error])])
  expect([code, log]).toEqual([1, ['steady drained']])
  const fatal = lines.find(({ level }) => level === 'fatal')
  expect(fatal).toMatchObject({ msg: 'failing failed', [field]: expect.anything() as unknown })
})

test('a service that ends without being asked to is a failure', async () => {
  const log: string[] = []
  const ended: Scripted = { name: 'ended', run: async () => {}, isThrough: Promise.withResolvers() }
  const { code, lines } = await run([steady(log), ended])
  expect([code, log]).toEqual([1, ['steady drained']])
  expect(lines.find(({ level }) => level === 'fatal')!.error).toContain('ended without being asked to')
})

test('a drain that takes too long ends with 1 and names who hung', async () => {
  const hangs: Service = { name: 'hangs', run: () => new Promise(() => {}) }
  const { code, lines } = await run([hangs, steady([]), failing([new FatalError('x')])], { drainMs: 50 })
  expect(code).toBe(1)
  expect(lines.find(({ msg }) => msg.startsWith('the drain took too long'))).toMatchObject({
    level: 'error',
    hanging: ['hangs'],
  })
})

test('what a service could not finish while draining is told by the exit code', async () => {
  const late: Service = {
    name: 'late',
    async run(signal) {
      await sleep(3_600_000, signal).catch(() => {})
      throw new TransientError('Postgres is away')
    },
  }
  const { code, lines } = await run([late, failing([new FatalError('x')])])
  expect(code).toBe(1)
  expect(lines.some(({ msg }) => msg === 'late could not finish what it had taken')).toBe(true)
})

test('after the run no signal handler is left on the process', async () => {
  const count = () =>
    ['SIGTERM', 'SIGINT', 'uncaughtException', 'unhandledRejection'].map((e) => process.listenerCount(e))
  const timers = () => process.getActiveResourcesInfo().filter((type) => type === 'Timeout').length
  const before = { listeners: count(), timers: timers() }
  await run([failing([new TransientError('away'), new FatalError('x')])])
  expect(count()).toEqual(before.listeners)
  // A timer of before may have fired meanwhile.
  expect(timers()).toBeLessThanOrEqual(before.timers)
})

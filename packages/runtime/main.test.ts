/** The frame of a daemon as its surroundings see it: a real process, real signals, a real port. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, describe, expect, test } from 'vitest'

type Line = { level: string; msg: string; [key: string]: unknown }

const started: Daemon[] = []
afterEach(() => {
  for (const daemon of started.splice(0)) daemon.child.kill('SIGKILL')
})

/** The fixture in a process of its own. Everything is awaited by what it says, never by time. */
class Daemon {
  readonly child
  readonly lines: Line[] = []
  readonly exit: Promise<{ code: number | null; signal: NodeJS.Signals | null }>
  stdout = ''
  stderr = ''

  constructor(env: Record<string, string>, args: string[] = []) {
    const script = fileURLToPath(new URL('main.fixture.ts', import.meta.url))
    const { PATH, NODE_COMPILE_CACHE } = process.env
    this.child = spawn(process.execPath, [script, ...args], { env: { PATH, NODE_COMPILE_CACHE, ...env } })
    this.child.stderr.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()))
    this.child.stdout.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()))
    createInterface(this.child.stdout).on('line', (line) => {
      if (line.startsWith('{')) this.lines.push(JSON.parse(line) as Line)
    })
    this.exit = once(this.child, 'close').then(([code, signal]) => ({ code: code as number, signal: signal as null }))
    started.push(this)
  }

  /** The line with this text, as soon as it is there. */
  async line(msg: string): Promise<Line> {
    for (;;) {
      const found = this.lines.find((line) => line.msg.startsWith(msg))
      if (found) return found
      await Promise.race([
        once(this.child.stdout, 'data'),
        this.exit.then(() => Promise.reject(new Error(this.told()))),
      ])
    }
  }

  told(): string {
    return `${this.stdout}\n${this.stderr}`
  }
}

const daemon = (scenario: string, env: Record<string, string> = {}) =>
  new Daemon({ INDEXER_SCENARIO: scenario, ...env })

/** Beyond the time in which a signal counts as an echo of the one before. */
const notAnEcho = () => new Promise((resolve) => setTimeout(resolve, 250))

describe('signals', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s drains, closes and exits 0', async (signal) => {
    const { child, exit, line, lines } = bound(daemon('drains'))
    await line('running')
    child.kill(signal)
    expect(await exit).toEqual({ code: 0, signal: null })
    expect(lines.map(({ msg }) => msg).slice(-5)).toEqual(['draining', 'persisted', 'drained', 'closed', 'stopped'])
  })

  test.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('a second %s exits at once with %i', async (signal, code) => {
    const { child, exit, line } = bound(daemon('hangs'))
    await line('running')
    child.kill(signal)
    await line('draining')
    await notAnEcho()
    child.kill(signal)
    expect(await exit).toEqual({ code, signal: null })
    expect(await line(`received ${signal} again`)).toMatchObject({ hanging: ['deaf'] })
  })

  test('a drain that takes too long exits 1 and says who hung', async () => {
    const { child, exit, line } = bound(daemon('hangs', { SLUICE_DRAIN_MS: '300ms' }))
    await line('running')
    child.kill('SIGTERM')
    expect(await exit).toEqual({ code: 1, signal: null })
    expect(await line('the drain took too long')).toMatchObject({ hanging: ['deaf'] })
  })

  test('a signal while starting is not lost', async () => {
    const { child, exit, line, lines } = bound(daemon('slow-start'))
    await line('waiting')
    child.kill('SIGTERM')
    expect(await exit).toEqual({ code: 0, signal: null })
    expect(lines.map(({ msg }) => msg).slice(-4)).toEqual(['persisted', 'drained', 'closed', 'stopped'])
  })

  test('a signal that ends a wait while starting, for Redis say, is no failure', async () => {
    const { child, exit, line, lines } = bound(daemon('interrupted-start'))
    await line('waiting')
    child.kill('SIGTERM')
    expect(await exit).toEqual({ code: 0, signal: null })
    expect(lines.at(-1)!.msg).toBe('stopped')
  })

  test('closing belongs to the drain: it is bounded, and its failure is a failure', async () => {
    const hung = bound(daemon('hung-close', { SLUICE_DRAIN_MS: '300ms' }))
    await hung.line('running')
    hung.child.kill('SIGTERM')
    expect((await hung.exit).code).toBe(1)
    expect(await hung.line('the drain took too long')).toMatchObject({ hanging: ['close'] })
    const broken = bound(daemon('broken-close'))
    await broken.line('running')
    broken.child.kill('SIGTERM')
    expect((await broken.exit).code).toBe(1)
    expect(JSON.stringify(await broken.line('failed'))).toContain('lost the socket')
    expect(broken.lines.some(({ msg }) => msg === 'closed')).toBe(true)
  })

  test('the crash point at the begin of a drain kills', async () => {
    const { child, exit, line, told } = bound(daemon('drains', { SLUICE_CRASH_POINTS: 'drain.begin' }))
    expect(await line('armed to crash')).toMatchObject({ points: ['drain.begin@1'] })
    await line('running')
    child.kill('SIGTERM')
    expect(await exit).toEqual({ code: null, signal: 'SIGKILL' })
    expect(told()).toContain('crash point drain.begin\n')
  })
})

describe('ends', () => {
  test('what is closed when there is nothing more to run is closed in bounded time, too', async () => {
    const { exit, line } = bound(daemon('hung-close-when-done', { SLUICE_DRAIN_MS: '300ms' }))
    expect((await exit).code).toBe(1)
    expect(await line('the drain took too long')).toMatchObject({ hanging: ['close'] })
  })

  test.each(['rejects', 'throws'])(
    'an error that nobody caught (%s) is logged and exits 1 without a drain',
    async (scenario) => {
      const { exit, line, lines } = bound(daemon(scenario))
      expect(await exit).toEqual({ code: 1, signal: null })
      expect((await line('an error that nobody caught')).level).toBe('fatal')
      expect(lines.some(({ msg }) => msg === 'persisted')).toBe(false)
    },
  )

  test('a FatalError while starting is one line without a stack, any other error shows where it came from', async () => {
    const fatal = bound(daemon('cannot-start', { REDIS_URL: 'redis://app:hunter2@r' }))
    expect((await fatal.exit).code).toBe(1)
    const error = 'FatalError: redis://app:***@r refuses ***: set another'
    expect(await fatal.line('cannot start')).toMatchObject({ level: 'fatal', error })
    expect(fatal.told()).not.toMatch(/hunter2|\.ts:\d+/)
    const bug = bound(daemon('broken-start'))
    expect((await bug.exit).code).toBe(1)
    expect(JSON.stringify(await bug.line('cannot start'))).toMatch(/a bug.*main\.fixture\.ts:\d+/)
  })

  test('an AbortError while starting is a failure when nobody asked for a stop', async () => {
    const { exit, line } = bound(daemon('aborted-start'))
    expect((await exit).code).toBe(1)
    expect(JSON.stringify(await line('cannot start'))).toContain('a request was aborted')
  })
})

describe('configuration', () => {
  test('a wrong environment exits 78 with all problems and no stack', async () => {
    const { exit, told } = bound(new Daemon({ INDEXER_SCENARO: 'drains', METRICS_PORT: 'x', INGESTER_MODE: 'all' }))
    expect((await exit).code).toBe(78)
    expect(told().trim().split('\n')).toEqual([
      'fixture cannot start: 3 problems in its environment',
      '  - METRICS_PORT is not an integer from 0 to 65535 ("x"). For example METRICS_PORT=0',
      '  - INDEXER_SCENARIO is required: How it ends. For example INDEXER_SCENARIO=drains',
      '  - INDEXER_SCENARO is not a variable of ours: did you mean INDEXER_SCENARIO? Remove or correct it.',
      'Run fixture --help for all variables.',
    ])
  })

  test('--help explains every variable and exits 0, whatever the environment', async () => {
    const { exit, told } = bound(new Daemon({ METRICS_PORT: 'x' }, ['--help']))
    expect((await exit).code).toBe(0)
    expect(told()).toContain('INDEXER_SCENARIO=drains\n')
  })

  test('the first line shows the effective configuration and where it came from, without secrets', async () => {
    const { line, told } = bound(daemon('drains', { REDIS_HOST: 'redis://app:hunter2@r' }))
    const { config } = (await line('starting')) as unknown as { config: Record<string, string> }
    expect(config).toMatchObject({
      REDIS_URL: 'redis://app:***@r (REDIS_HOST)',
      SLUICE_DRAIN_MS: '25000 (default)',
      INDEXER_SCENARIO: 'drains (INDEXER_SCENARIO)',
    })
    expect(told()).not.toContain('hunter2')
  })
})

describe('/ready', () => {
  const ready = async (port: unknown) => {
    const response = await fetch(`http://127.0.0.1:${String(port)}/ready`)
    return [response.status, await response.json()] as const
  }

  test('turns 503 for the drain, and stays reachable until the end', async () => {
    const { child, line } = bound(daemon('hangs', { SLUICE_BUILD_ID: 'b7' }))
    const { metricsPort } = await line('starting')
    await line('running')
    const identity = { role: 'fixture', build: 'b7' }
    expect(await ready(metricsPort)).toEqual([200, { ready: true, reasons: [], ...identity }])
    child.kill('SIGTERM')
    await line('draining')
    const reasons = ['drain: received SIGTERM']
    expect(await ready(metricsPort)).toEqual([503, { ready: false, reasons, ...identity }])
  })

  test('is 503 for as long as the start takes', async () => {
    const { line } = bound(daemon('slow-start'))
    const { metricsPort } = await line('starting')
    await line('waiting')
    expect(await ready(metricsPort)).toMatchObject([503, { ready: false, reasons: ['start: starting'] }])
  })

  test('names what blocks, without secrets', async () => {
    const { line } = bound(daemon('blocked', { REDIS_URL: 'redis://app:hunter2@r' }))
    const { metricsPort } = await line('starting')
    await line('running')
    expect(await ready(metricsPort)).toMatchObject([503, { reasons: ['redis: refuses ***'] }])
  })
})

/** The daemon with its methods bound, for taking apart. */
function bound(one: Daemon) {
  const { child, lines, exit } = one
  return { child, lines, exit, line: one.line.bind(one), told: one.told.bind(one) }
}

/** A role whose services end in the ways that `main.test.ts` wants to see, each in a process of its own. */
import { once } from 'node:events'
import { setInterval } from 'node:timers/promises'
import { defineConfig } from './config.ts'
import { FatalError } from './errors.ts'
import { runMain } from './main.ts'
import type { Service } from './service.ts'
import { redisOptions, runtimeOptions } from './shared-options.ts'

const scenarios = [
  'drains',
  'hangs',
  'rejects',
  'throws',
  'blocked',
  'cannot-start',
  'broken-start',
  'aborted-start',
  'slow-start',
  'interrupted-start',
  'hung-close',
  'hung-close-when-done',
  'broken-close',
] as const

const fixtureConfig = defineConfig({
  name: 'fixture',
  summary: 'ends in many ways',
  options: {
    ...runtimeOptions(0),
    ...redisOptions,
    scenario: { env: 'INDEXER_SCENARIO', type: 'enum', values: scenarios, example: 'drains', help: 'How it ends.' },
  },
})

function service(name: string, run: (signal: AbortSignal) => Promise<void>): Service {
  return { name, run }
}

/** Runs until the signal, after something that nobody awaits. */
function careless(begin: () => void): Service {
  return service('careless', async (signal) => {
    begin()
    await once(signal, 'abort')
  })
}

/** Runs for ever, deaf to any signal. */
async function hang(): Promise<void> {
  for await (const _ of setInterval(1000));
}

await runMain({
  config: fixtureConfig,
  known: ['INGESTER_MODE'],
  async start({ config, log, readiness, resources, signal }) {
    resources.defer(async () => log.info('closed'))
    const steady = service('steady', async (signal) => {
      if (!signal.aborted) await once(signal, 'abort')
      log.info('persisted')
    })
    switch (config.scenario) {
      case 'drains':
        return [steady]
      case 'hangs':
        return [steady, service('deaf', hang)]
      case 'rejects':
        return [steady, service('deaf', hang), careless(() => void Promise.reject(new Error('nobody caught me')))]
      case 'throws':
        return [steady, careless(() => void setImmediate(() => JSON.parse('{')))]
      case 'blocked':
        readiness.block('redis', `refuses ${new URL(config.redisUrl).password}`)
        return [steady]
      case 'cannot-start':
        throw new FatalError(`${config.redisUrl} refuses ${new URL(config.redisUrl).password}: set another`)
      case 'broken-start':
        throw new TypeError('a bug')
      case 'aborted-start':
        throw new DOMException('a request was aborted', 'AbortError')
      case 'slow-start':
        log.info('waiting')
        await once(signal, 'abort')
        return [steady]
      case 'interrupted-start':
        log.info('waiting')
        await once(signal, 'abort')
        signal.throwIfAborted()
        return [steady]
      case 'hung-close':
        resources.defer(hang)
        return [steady]
      case 'hung-close-when-done':
        resources.defer(hang)
        return []
      case 'broken-close':
        resources.defer(() => Promise.reject(new Error('lost the socket')))
        return [steady]
      default:
        return config.scenario satisfies never
    }
  },
})

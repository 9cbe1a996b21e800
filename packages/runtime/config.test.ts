import { describe, expect, expectTypeOf, test } from 'vitest'
import { ConfigError, defineConfig, loadConfig, namesOf, settingsOf, type ConfigOf } from './config.ts'
import { maskConfig, secretsOf } from './config-mask.ts'
import { renderHelp, renderTable } from './config-render.ts'
import { FatalError } from './errors.ts'
import { identityOptions, redisOptions, runtimeOptions } from './shared-options.ts'

/**
 * The convention: one literal, shared groups spread first, keys in camelCase with the unit last, one line of help each.
 */
const brewerConfig = defineConfig({
  name: 'brewer',
  summary: 'brews',
  options: {
    ...runtimeOptions(4000),
    ...redisOptions,
    ...identityOptions,
    consumer: {
      env: 'INDEXER_CONSUMER',
      type: 'string',
      example: 'one',
      help: 'The name of this process in its group.',
    },
    region: { env: 'INDEXER_REGION', type: 'string', default: undefined, example: 'eu', help: 'Where it runs.' },
    batchEvents: {
      env: 'INDEXER_BATCH',
      type: 'integer',
      min: 1,
      max: 5000,
      default: 500,
      help: 'Events in one batch.',
    },
    mode: { env: 'INDEXER_MODE', type: 'enum', values: ['all', 'live'], default: 'all', help: 'What to index.' },
    streams: { env: 'INDEXER_STREAMS', type: 'list', default: ['a', 'b'], help: 'Streams to read.' },
    strict: { env: 'INDEXER_STRICT', type: 'boolean', default: false, help: 'Refuses what is doubtful.' },
    bufferBytes: {
      env: 'INDEXER_BUFFER',
      type: 'bytes',
      default: 64 * 1024 ** 2,
      help: 'Memory for events in flight.',
    },
    idleMs: { env: 'INDEXER_IDLE', type: 'duration', default: 1000, help: 'Wait between polls.' },
    apiKey: {
      env: 'INDEXER_API_KEY',
      type: 'string',
      secret: true,
      default: undefined,
      example: 'k',
      help: 'Key | pipe.',
    },
    highWaterEntries: {
      env: 'INDEXER_HIGH_WATER_MARK',
      aliases: ['OLD_HIGH_WATER_MARK'],
      type: 'integer',
      default: 100_000,
      check: (value) => (value % 1000 === 0 ? undefined : 'must be whole thousands'),
      help: 'Where producers pause.',
    },
  },
})

const load = (env: Record<string, string>, known?: string[]) =>
  loadConfig(brewerConfig, { INDEXER_CONSUMER: 'one', ...env }, { known: known ?? [] })

function problemsOf(env: Record<string, string>, known?: string[]): readonly string[] {
  try {
    load(env, known)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

describe('reading', () => {
  test('the type of the configuration follows from the literal', () => {
    type Config = ConfigOf<typeof brewerConfig>
    expectTypeOf<Config['consumer']>().toEqualTypeOf<string>()
    expectTypeOf<Config['region']>().toEqualTypeOf<string | undefined>()
    expectTypeOf<Config['batchEvents']>().toEqualTypeOf<number>()
    expectTypeOf<Config['mode']>().toEqualTypeOf<'all' | 'live'>()
    expectTypeOf<Config['streams']>().toEqualTypeOf<readonly string[]>()
    expectTypeOf<Config['strict']>().toEqualTypeOf<boolean>()
    expectTypeOf<Config['metricsPort']>().toEqualTypeOf<number>()
  })

  test('an empty environment gives the defaults', () => {
    expect(load({})).toMatchObject({
      consumer: 'one',
      region: undefined,
      batchEvents: 500,
      mode: 'all',
      streams: ['a', 'b'],
      strict: false,
      bufferBytes: 67_108_864,
      idleMs: 1000,
      redisUrl: 'redis://localhost:6379',
      metricsPort: 4000,
    })
  })

  test.each([
    ['INDEXER_BATCH', ' 7 ', { batchEvents: 7 }],
    ['INDEXER_BATCH', '', { batchEvents: 500 }],
    ['INDEXER_MODE', 'live', { mode: 'live' }],
    ['INDEXER_STREAMS', 'x, y,,z ', { streams: ['x', 'y', 'z'] }],
    ['INDEXER_STRICT', 'Yes', { strict: true }],
    ['INDEXER_STRICT', '0', { strict: false }],
    ['INDEXER_BUFFER', '1024', { bufferBytes: 1024 }],
    ['INDEXER_BUFFER', '512mb', { bufferBytes: 512 * 1024 ** 2 }],
    ['INDEXER_BUFFER', '2GB', { bufferBytes: 2 * 1024 ** 3 }],
    ['INDEXER_IDLE', '250', { idleMs: 250 }],
    ['INDEXER_IDLE', '5m', { idleMs: 300_000 }],
    ['REDIS_URL', 'rediss://u:p@r:1/2', { redisUrl: 'rediss://u:p@r:1/2' }],
    ['REDIS_HOST', 'redis-1:6380', { redisUrl: 'redis://redis-1:6380' }],
    ['OLD_HIGH_WATER_MARK', '5000', { highWaterEntries: 5000 }],
    ['PLC_URL', 'https://plc.example', { plcUrl: 'https://plc.example' }],
    ['PLC_URL', 'https://plc.example/', { plcUrl: 'https://plc.example/' }],
    ['PLC_URL', 'plc.example', { plcUrl: 'https://plc.example' }],
    ['PLC_URL', 'http://localhost:2582', { plcUrl: 'http://localhost:2582' }],
  ])('%s=%s', (name, text, expected) => expect(load({ [name]: text })).toMatchObject(expected))

  test("an option's own variable goes before its alias", () => {
    const env = { OLD_HIGH_WATER_MARK: '5000', INDEXER_HIGH_WATER_MARK: '7000' }
    expect(load(env).highWaterEntries).toBe(7000)
  })

  test.each([
    ['INDEXER_BATCH', '0'],
    ['INDEXER_BATCH', '5001'],
    ['INDEXER_BATCH', '5e2'],
    ['INDEXER_BATCH', '5.5'],
    ['INDEXER_MODE', 'none'],
    ['INDEXER_MODE', 'All'],
    ['INDEXER_STRICT', 'maybe'],
    ['INDEXER_BUFFER', '10m'],
    ['INDEXER_BUFFER', '-1'],
    ['INDEXER_BUFFER', '9999999999gb'],
    ['INDEXER_IDLE', 'soon'],
    ['INDEXER_IDLE', '1d'],
    ['INDEXER_HIGH_WATER_MARK', '1500'],
    ['OLD_HIGH_WATER_MARK', 'x'],
    ['REDIS_URL', 'http://r'],
    ['REDIS_URL', 'redis://r:port'],
    ['PLC_URL', 'https://plc.example/plc'],
    ['PLC_URL', 'https://plc.example/did:plc:'],
    ['PLC_URL', 'plc.example/?mirror=1'],
    ['PLC_URL', 'http://plc.example:2582/#top'],
    ['PLC_URL', 'wss://plc.example'],
    ['METRICS_PORT', '65536'],
  ])('%s=%s is refused, with an example that is accepted', (name, text) => {
    const problems = problemsOf({ [name]: text })
    expect(problems).toHaveLength(1)
    expect(problems[0]).toMatch(new RegExp(`^${name} `))
    const [, exampleName, example] = /For example (\w+)=(.*)$/.exec(problems[0]!)!
    expect(problemsOf({ [exampleName!]: example! })).toEqual([])
  })

  test('all problems are told at once, each with its variable, what is wrong and an example', () => {
    const env = { INDEXER_BATCH: 'many', INDEXER_BATHC: '5', INDEXER_MODE: 'some', INDEXER_CONSUMER: '' }
    expect(problemsOf(env)).toEqual([
      'INDEXER_CONSUMER is required: The name of this process in its group. For example INDEXER_CONSUMER=one',
      'INDEXER_BATCH is not an integer from 1 to 5000 ("many"). For example INDEXER_BATCH=500',
      'INDEXER_MODE is not one of all, live ("some"). For example INDEXER_MODE=all',
      'INDEXER_BATHC is not a variable of ours: did you mean INDEXER_BATCH? Remove or correct it.',
    ])
    expect(() => load(env)).toThrow(/brewer cannot start: 4 problems/)
    expect(() => load(env)).toThrow(FatalError)
  })

  test('a directory that is not asked for at the root of a host is refused, and the operator reads what to write', () => {
    const problem = 'PLC_URL has a path, a query or a fragment, and DIDs are looked up at the root of a host: write https://plc.example:444. For example PLC_URL=https://plc.directory' // prettier-ignore
    expect(problemsOf({ PLC_URL: 'https://u:hunter2@plc.example:444/plc?key=hush' })).toEqual([problem])
  })

  test('a URL that cannot be read is not shown, since it cannot be masked', () => {
    for (const url of ['https://u:hunter2:x@h:port', 'https:/u:hunter2@h', 'htps://u:hunter2@h']) {
      const [problem] = problemsOf({ PLC_URL: url })
      expect(problem).toContain('PLC_URL is not a URL')
      expect(problem).not.toContain('hunter2')
    }
  })
})

test('O4 a check that names the value does not tell the password in it', () => {
  const check = ([bad]: readonly string[]): string | undefined => (bad ? `names ${bad}, which is no host` : undefined)
  const relays = { env: 'RELAY_HOSTS', type: 'list', default: [], example: '', help: 'Relays.', check } as const
  const brewer = defineConfig({ name: 'brewer', summary: '', options: { relays } })
  const load = () => loadConfig(brewer, { RELAY_HOSTS: 'https://user:hunter2@relay.example' }, { known: [] })
  expect(load).toThrow(/RELAY_HOSTS names https:.*which is no host/)
  expect(load).not.toThrow(/hunter2/)
})

describe('names that look like ours', () => {
  test.each([
    ['INDEXER_CONSUMER_NAME', 'the nearest is INDEXER_CONSUMER?'],
    ['INDEXER_STREAM', 'did you mean INDEXER_STREAMS?'],
    ['INDEXER_MDOE', 'did you mean INDEXER_MODE?'],
    ['SLUICE_DRIAN_MS', 'did you mean SLUICE_DRAIN_MS?'],
    ['REDIS_ULR', 'did you mean REDIS_URL?'],
    ['PLC_URLS', 'did you mean PLC_URL?'],
  ])('%s stops the start', (name, hint) => expect(problemsOf({ [name]: 'x' })[0]).toContain(hint))

  test.each([
    ['PATH', '/bin'],
    ['REDIS_PASSWORD', 'x'],
    ['DB_NAME', 'x'],
    ['SLUICE_BUILD_ID', 'x'],
    ['SLUICE_CRASH_POINTS', ''],
    // injected by Kubernetes and Docker for services called indexer and redis
    ['INDEXER_SERVICE_HOST', '10.0.0.1'],
    ['INDEXER_SERVICE_PORT_METRICS', '4020'],
    ['INDEXER_PORT', 'tcp://10.0.0.1:4020'],
    ['INDEXER_PORT_4020_TCP_ADDR', '10.0.0.1'],
    ['REDIS_PORT', 'tcp://10.0.0.1:6379'],
  ])('%s=%s does not', (name, text) => expect(problemsOf({ [name]: text })).toEqual([]))

  test('variables of other roles are known, so one env file serves all', () => {
    expect(problemsOf({ INGESTER_MODE: 'all' })).toHaveLength(1)
    expect(problemsOf({ INGESTER_MODE: 'all' }, ['INGESTER_MODE'])).toEqual([])
    expect(namesOf(brewerConfig)).toEqual(expect.arrayContaining(['REDIS_URL', 'REDIS_HOST', 'OLD_HIGH_WATER_MARK']))
  })
})

describe('a literal that contradicts itself cannot be defined', () => {
  const define = (option: object) => () => defineConfig({ name: 'x', summary: 'x', options: { option } as never })
  const good = { env: 'X_SIZE', type: 'integer', default: 1, help: 'Size.' }
  test.each([
    ['default', { default: 0, min: 1 }],
    ['example', { example: 'many' }],
    ['help', { help: '' }],
    ['line of help', { help: 'a\nb' }],
    ['name', { env: 'x-size' }],
  ])('%s', (what, wrong) => {
    expect(define(good)).not.toThrow()
    expect(define({ ...good, ...wrong })).toThrow(what)
  })

  test('two options cannot read one variable', () => {
    const options = { a: { ...good, type: 'integer' }, b: { ...good, type: 'integer' } } as const
    expect(() => defineConfig({ name: 'x', summary: 'x', options })).toThrow('two options read X_SIZE')
  })
})

describe('names that must differ', () => {
  const text = (env: string, value: string) => ({ env, type: 'string', default: value, help: 'A stream.' }) as const
  const shop = defineConfig({
    name: 'shop',
    summary: 'sells',
    options: {
      tea: text('SHOP_TEA', 'tea'),
      orders: { env: 'SHOP_ORDERS', aliases: ['SHOP_OLD'], type: 'list', default: ['a', 'b'], help: 'Streams.' },
      coffee: text('SHOP_COFFEE', 'coffee'),
      sign: text('SHOP_SIGN', 'tea'),
    },
    distinct: { keys: ['tea', 'orders', 'coffee'], alsoTaken: (name) => [`${name}_lost`] },
  })
  const problems = (env: Record<string, string>) => settingsOf(shop, env).flatMap(({ problem }) => problem ?? [])

  test.each<[Record<string, string>, string]>([
    [{ SHOP_TEA: 'b' }, 'SHOP_TEA names b, which is in use by SHOP_ORDERS (by default a,b)'],
    [{ SHOP_OLD: 'c,coffee' }, 'SHOP_OLD names coffee, which is in use by SHOP_COFFEE (by default coffee)'],
    [{ SHOP_COFFEE: 'x', SHOP_TEA: 'x' }, 'SHOP_COFFEE names x, which is in use by SHOP_TEA (x)'],
    [{ SHOP_TEA: 'coffee_lost' }, 'SHOP_TEA names coffee_lost, which is in use by SHOP_COFFEE (by default coffee)'],
    [{ SHOP_TEA: 'x', SHOP_ORDERS: 'x_lost' }, 'SHOP_ORDERS names x_lost, which is in use by SHOP_TEA (x)'],
    [{ SHOP_TEA: 'x_lost', SHOP_ORDERS: 'x' }, 'SHOP_ORDERS names x, which is in use by SHOP_TEA (x_lost)'],
  ])('%j', (env, problem) => {
    expect(problems(env)).toEqual([problem])
    expect(() => loadConfig(shop, env)).toThrow(problem)
  })

  test('those that do, and other options, may be anything', () => {
    expect(problems({})).toEqual([])
    expect(problems({ SHOP_TEA: 'coffee', SHOP_COFFEE: 'tea', SHOP_SIGN: 'a' })).toEqual([])
  })
})

describe('rendering', () => {
  test('help names every variable with an example, its form and its aliases', () => {
    const help = renderHelp(brewerConfig)
    for (const name of namesOf(brewerConfig)) expect(help).toContain(name)
    expect(help).toContain(
      'INDEXER_CONSUMER=one\n      The name of this process in its group.\n      A text; required.',
    )
    expect(help).toContain('default 64mb')
    expect(help).toContain('Also read: REDIS_HOST.')
  })

  test('the table has one row an option', () => {
    const rows = renderTable(brewerConfig.options).trimEnd().split('\n')
    expect(rows).toHaveLength(2 + Object.keys(brewerConfig.options).length)
    expect(rows).toContain('| `INDEXER_BATCH` | An integer from 1 to 5000 | `500` | Events in one batch. |')
    expect(rows).toContain('| `INDEXER_API_KEY` | A text | optional | Key \\| pipe. |')
    expect(rows.find((row) => row.includes('REDIS_HOST'))).toContain('| `REDIS_URL`, `REDIS_HOST` |')
  })

  test('the effective configuration shows sources and hides secrets', () => {
    const env = {
      REDIS_HOST: 'redis://app:hunter2hunter2@r:6379/0?x=hush',
      INDEXER_API_KEY: 'open-sesame',
      INDEXER_BATCH: '9',
      INDEXER_STREAMS: 'wss://me:letmein@host,b',
    }
    const settings = maskConfig(brewerConfig, env)
    expect(settings).toEqual(
      expect.arrayContaining([
        { name: 'REDIS_URL', value: 'redis://app:***@r:6379/0?***', source: 'REDIS_HOST' },
        { name: 'INDEXER_API_KEY', value: '***', source: 'INDEXER_API_KEY' },
        { name: 'INDEXER_BATCH', value: '9', source: 'INDEXER_BATCH' },
        { name: 'INDEXER_STREAMS', value: 'wss://me:***@host,b', source: 'INDEXER_STREAMS' },
        { name: 'INDEXER_BUFFER', value: '64mb', source: 'default' },
        { name: 'INDEXER_CONSUMER', value: '', source: 'not set' },
      ]),
    )
    expect(JSON.stringify(settings)).not.toMatch(/hunter2|sesame|letmein|hush/)
    expect([...new Set(secretsOf(brewerConfig, env))].sort()).toEqual(['hunter2hunter2', 'letmein', 'open-sesame'])
  })

  test('a password that only repeats a name is not removed from every log line', () => {
    expect(secretsOf(brewerConfig, { REDIS_URL: 'redis://default:default@localhost' })).toEqual([])
  })
})

import { describe, expect, test } from 'vitest'
import { TransientError } from './errors.ts'
import { createLogger, levelOfDelay, logRetry, type Level } from './log.ts'
import { createRedactor, redact } from './redact.ts'

const PASSWORD = 'hun"ter/2@ \\wörld'

/** A logger and the lines it wrote. */
function capture({ level = 'info', secrets = [] }: { level?: Level; secrets?: string[] } = {}) {
  const lines: string[] = []
  const destination = { write: (line: string) => void lines.push(line) }
  return { lines, log: createLogger({ role: 'indexer', build: 'b1', level, secrets, destination }) }
}

test('a line is one JSON object with level, time, role and build', () => {
  const { lines, log } = capture()
  log.info({ events: 500 }, 'applied')
  expect(lines).toHaveLength(1)
  const line = JSON.parse(lines[0]!) as Record<string, unknown>
  expect(line).toMatchObject({ level: 'info', role: 'indexer', build: 'b1', events: 500, msg: 'applied' })
  expect(new Date(line.time as string).toISOString()).toBe(line.time)
})

test('lines below the level are not written', () => {
  const { lines, log } = capture({ level: 'warn' })
  log.info('quiet')
  log.warn('loud')
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(['loud'])
})

test('the level of a retry grows with its delay', () => {
  expect([0, 999, 1000, 9999, 10_000, 60_000].map(levelOfDelay)).toEqual([
    'info',
    'info',
    'warn',
    'warn',
    'error',
    'error',
  ])
  const { lines, log } = capture()
  logRetry(log, 2500, 'connecting to Redis failed', new TransientError('refused', { cause: new Error('ECONNREFUSED') }))
  expect(JSON.parse(lines[0]!)).toMatchObject({
    level: 'warn',
    delayMs: 2500,
    msg: 'connecting to Redis failed, next try in 2.5 s',
    error: 'TransientError: refused ← Error: ECONNREFUSED',
  })
})

describe('secrets are never logged', () => {
  const url = (password: string) => `postgres://app:${password}@db.example:5432/sluice`
  const nasty = [
    ['in the text', (log: Log, u: string) => log.info(`connecting to ${u} failed`)],
    ['twice in the text', (log: Log, u: string) => log.info(`${u} and ${u}`)],
    ['in quotes in the text', (log: Log, u: string) => log.info(`"${u}"`)],
    ['as format argument', (log: Log, u: string) => log.info('to %s failed', u)],
    ['in a field', (log: Log, u: string) => log.info({ u }, 'x')],
    ['deep in a field', (log: Log, u: string) => log.info({ a: [{ b: { c: [u] } }] }, 'x')],
    ['as a key', (log: Log, u: string) => log.info({ [u]: 1 }, 'x')],
    ['in a Map made into an object', (log: Log, u: string) => log.info(Object.fromEntries(new Map([[u, u]])), 'x')],
    ['in JSON in a string', (log: Log, u: string) => log.info({ body: JSON.stringify({ u }) }, 'x')],
    ['in an error', (log: Log, u: string) => log.error(new Error(u))],
    [
      'in an error field',
      (log: Log, u: string) => log.error({ err: Object.assign(new Error('x'), { config: { u } }) }, 'x'),
    ],
    [
      'in the cause of an error',
      (log: Log, u: string) => log.error({ err: new Error('x', { cause: new Error(u) }) }, 'x'),
    ],
    [
      'in an aggregate error',
      (log: Log, u: string) => log.error({ err: new AggregateError([new Error(u)], 'x') }, 'x'),
    ],
    ['in a child logger', (log: Log, u: string) => log.child({ u }).info('x')],
    ['as a URL object', (log: Log, u: string) => log.info({ u: URL.canParse(u) ? new URL(u) : u }, 'x')],
    ['by logRetry', (log: Log, u: string) => logRetry(log, 5, 'x', new Error(u, { cause: u }), { u })],
  ] as const
  type Log = ReturnType<typeof capture>['log']

  test.each(nasty)('unknown, in a URL %s', (_, write) => {
    for (const password of ['s3cret', 's3cret@x', 'a/s3cret', 'a#s3cret?b', "s3cret'!$&*", 'a:s3cret', 's3cret%40']) {
      const { lines, log } = capture({ level: 'trace' })
      write(log, url(password))
      expect(lines.join('')).not.toContain('s3cret')
      expect(lines.join('')).toContain('db.example')
      for (const line of lines) JSON.parse(line)
    }
  })

  test.each(nasty)('known, however strange, in a URL %s', (_, write) => {
    for (const shown of [PASSWORD, encodeURIComponent(PASSWORD)]) {
      const { lines, log } = capture({ level: 'trace', secrets: [PASSWORD] })
      write(log, url(shown))
      expect(lines.length).toBeGreaterThan(0)
      expect(lines.join('')).not.toMatch(/hun.{0,4}ter|w(ö|%C3%B6)rld/)
      for (const line of lines) JSON.parse(line)
    }
  })

  test.each([
    ['a known secret on its own', { args: ['AUTH', 'app', 'open-sesame'] }],
    ['a password field', { options: { host: 'h', password: 'p4ss' } }],
    ['a password in nested JSON', { body: JSON.stringify({ password: 'p4ss' }) }],
    ['a password in JSON, twice nested', { body: JSON.stringify({ inner: JSON.stringify({ password: 'p4ss' }) }) }],
    ['a header', { headers: { authorization: 'Bearer abcdefghij' } }],
    ['a header in a text', 'sent Authorization: Bearer abcdefghij.klm to h'],
    ['a query', 'GET https://h/x?a=1&access_token=p4ss&b=2'],
    ['a connection string', 'host=h user=app password=p4ss dbname=x'],
    ['a token as user of a web URL', 'wss://p4ss@relay.example/xrpc'],
    ['several URLs in a list', 'redis://a:p4ss@h1,redis://b:p4ss@h2'],
    ['a secret with an empty user', 'redis://:p4ss@h'],
  ])('%s', (_, value) => {
    const { lines, log } = capture({ secrets: ['open-sesame'] })
    log.info(typeof value === 'string' ? { value } : value, 'x')
    expect(lines[0]).not.toMatch(/p4ss|open-sesame|abcdefghij/)
    expect(lines[0]).toContain('***')
    JSON.parse(lines[0]!)
  })

  test('a known secret is found in each of its forms', () => {
    const json = JSON.stringify({ a: JSON.stringify({ b: PASSWORD }) })
    const text = `${PASSWORD} | ${encodeURIComponent(PASSWORD)} | ${json}`
    expect(createRedactor([PASSWORD])(text)).toBe(String.raw`*** | *** | {"a":"{\"b\":\"***\"}"}`)
    const deep = JSON.stringify({ c: json })
    expect(createRedactor([PASSWORD])(deep)).toBe(JSON.stringify({ c: JSON.stringify({ a: '{"b":"***"}' }) }))
  })

  test('a secret that contains another leaves nothing behind', () => {
    expect(createRedactor(['abcdef', 'abcdef-ghi'])('x abcdef-ghi y')).toBe('x *** y')
  })

  test.each([
    'at://did:plc:abc/app.bsky.feed.post/3k by @alice.example',
    'https://bsky.social/profile/@alice',
    'wss://relay.example:443/xrpc/com.atproto.sync.subscribeRepos?cursor=5',
    'postgres://app@db/sluice',
    'user a@b.example at 12:30',
    '{"keys":5,"tokens":7,"cursor":"12"}',
  ])('what is no secret stays: %s', (text) => expect(redact(text)).toBe(text))

  test('a hostile megabyte is worked through, not searched for ever', () => {
    const hostile = ['://a:', 'token', '"token":"', 'Bearer ', '\\"', 'https://a', '":"'].map((part) =>
      part.repeat(20_000),
    )
    for (const text of hostile) expect(redact(text).length).toBeGreaterThan(0)
  }, 20_000)
})

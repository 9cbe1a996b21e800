import { expect, test } from 'vitest'
import { expectationOf, formatValue, parseValue, type Option } from './config-kinds.ts'

const bytes: Option = { type: 'bytes', env: 'SIZE', default: 1, help: 'Size.' }

test.each<[number, string]>([
  [0, '0'],
  [1, '1b'],
  [1_000, '1000b'],
  [1_024, '1kb'],
  [1_536, '1536b'],
  [1024 ** 2 - 1, '1048575b'],
  [1024 ** 2, '1mb'],
  [1.5 * 1024 ** 3, '1536mb'],
  [1024 ** 3, '1gb'],
])('%i bytes are written as %s, in the largest unit that fits, and read back', (value, text) => {
  expect(formatValue(bytes, value)).toBe(text)
  expect(parseValue(bytes, text)).toBe(value)
})

test.each<[{ min?: number; max?: number }, string]>([
  [{}, 'a time in milliseconds, or such as 30s, 5m or 2h'],
  [{ min: 1_000 }, 'a time in milliseconds, or such as 30s, 5m or 2h, of at least 1s'],
  [{ max: 60_000 }, 'a time in milliseconds, or such as 30s, 5m or 2h, of at most 1m'],
  [{ min: 1, max: 3_600_000 }, 'a time in milliseconds, or such as 30s, 5m or 2h, from 1ms to 1h'],
])('the range %j of a time is told in units, and both its ends are allowed', (range, text) => {
  const option: Option = { type: 'duration', env: 'WAIT', default: 1_000, help: 'Wait.', ...range }
  expect(expectationOf(option)).toBe(text)
  for (const ms of Object.values(range)) expect(parseValue(option, String(ms))).toBe(ms)
  if (range.min !== undefined) expect(parseValue(option, String(range.min - 1))).toBeUndefined()
  if (range.max !== undefined) expect(parseValue(option, String(range.max + 1))).toBeUndefined()
})

test('a time of seconds or more may be shorter only with its unit: 30 was meant as 30 seconds', () => {
  const option: Option = { type: 'duration', env: 'WAIT', min: 1, unitBelow: 1_000, default: 1_000, help: 'Wait.' }
  expect(expectationOf(option)).toBe(
    'a time in milliseconds, or such as 30s, 5m or 2h, of at least 1ms, below 1s only with its unit, such as 250ms',
  )
  expect(['30', '999', '030'].map((text) => parseValue(option, text))).toEqual([undefined, undefined, undefined])
  expect(['30ms', '999MS', '1000', '1s'].map((text) => parseValue(option, text))).toEqual([30, 999, 1_000, 1_000])
  for (const value of [1, 30, 999, 1_000, 1_500]) expect(parseValue(option, formatValue(option, value))).toBe(value)
})

const redis: Option = {
  type: 'url',
  schemes: ['redis', 'rediss'],
  env: 'REDIS_URL',
  default: 'redis://r',
  help: 'Redis.',
}

test.each([
  ['localhost', 'redis://localhost'],
  ['redis-1:6380', 'redis://redis-1:6380'],
  [':hunter2@redis-1/2', 'redis://:hunter2@redis-1/2'],
  ['rediss://redis-1', 'rediss://redis-1'],
])('a URL may be written without its scheme: %s is %s', (text, url) => {
  expect(parseValue(redis, text)).toBe(url)
})

test('and the operator reads so', () => {
  expect(expectationOf(redis)).toBe('a URL (redis://… or rediss://…; without a scheme it is redis://)')
})

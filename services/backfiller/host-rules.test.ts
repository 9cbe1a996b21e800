import { expect, test } from 'vitest'
import { hostLimits, parseHostRules, WINDOW_SECONDS } from './host-rules.ts'

const FALLBACK = { concurrency: 8, requests: 2_700 }

test('the first rule that fits counts, and a domain does not fit itself or its namesakes', () => {
  const { rules, problem } = parseHostRules(['big.example=64/9000', '*.example=32', '*.host.test=4/100'])
  expect(problem).toBeUndefined()
  const limitsOf = hostLimits(rules, FALLBACK)
  expect(limitsOf('big.example').concurrency).toBe(64)
  expect(limitsOf('a.example').concurrency).toBe(32)
  expect(limitsOf('notexample').concurrency).toBe(8)
  expect(limitsOf('example').concurrency).toBe(8)
  expect(limitsOf('a.host.test').perSecond).toBeLessThan(1)
})

test('a rule names its host in any case: hosts are told apart in lower case', () => {
  const { rules } = parseHostRules(['PDS.Example=3', '*.Host.Test=4'])
  const limitsOf = hostLimits(rules, FALLBACK)
  expect([limitsOf('pds.example'), limitsOf('a.host.test')].map(({ concurrency }) => concurrency)).toEqual([3, 4])
})

test.each([10, 100, 2_700, 30_000])('burst and flow of %i requests never exceed them in any window', (requests) => {
  const { burst, perSecond } = hostLimits([], { concurrency: 1, requests })('any')
  expect(burst + perSecond * WINDOW_SECONDS).toBeLessThanOrEqual(requests)
})

test('shards take their part each, and together no more than is allowed', () => {
  const { rules } = parseHostRules(['big.example=64/9000', 'tiny.example=2'])
  for (const shards of [2, 3, 8]) {
    const limitsOf = hostLimits(rules, FALLBACK, shards)
    for (const [host, concurrency, requests] of [
      ['big.example', 64, 9_000],
      ['other', 8, 2_700],
    ] as const) {
      const { concurrency: each, burst, perSecond } = limitsOf(host)
      expect(each).toBe(Math.floor(concurrency / shards))
      expect((burst + perSecond * WINDOW_SECONDS) * shards).toBeLessThanOrEqual(requests)
      expect((burst + perSecond * WINDOW_SECONDS) * shards).toBeGreaterThan(requests * 0.9)
    }
    expect(limitsOf('tiny.example').concurrency).toBe(Math.max(1, Math.floor(2 / shards)))
  }
})

test.each(['pds', 'pds=', 'pds=0', 'pds=x', '=4', 'pds=4/0', 'pds=4/'])('%s is no rule', (text) => {
  expect(parseHostRules([text]).problem).toContain(`"${text}"`)
})

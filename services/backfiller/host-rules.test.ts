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

test.each([10, 100, 2_700, 30_000])('burst and flow of %i requests never exceed them in any window', (requests) => {
  const { burst, perSecond } = hostLimits([], { concurrency: 1, requests })('any')
  expect(burst + perSecond * WINDOW_SECONDS).toBeLessThanOrEqual(requests)
})

test.each(['pds', 'pds=', 'pds=0', 'pds=x', '=4', 'pds=4/0', 'pds=4/'])('%s is no rule', (text) => {
  expect(parseHostRules([text]).problem).toContain(`"${text}"`)
})

import type { HandleClaim } from '@sluice/indexing/handle-checks.ts'
import { expect, test } from 'vitest'
import { nextCheck } from './handle-schedule.ts'

const SCHEDULE = { refreshMs: 3_600_000, retryMs: 5_000, noneMs: 60_000, capMs: 600_000 }
const CLAIM: HandleClaim = { did: 'did:web:a.example', queue: 'new', askedAt: '', tries: 3, imported: null, until: '' }

test('who was turned away stays where it is and as often tried as it was: a new one is due within seconds, any other no sooner than it would have been', () => {
  const next = (queue: HandleClaim['queue'], random: number) =>
    nextCheck({ ...CLAIM, queue, tries: 3 }, { outcome: 'turned-away', retryAfterMs: 1_000 }, SCHEDULE, 0, () => random)
  const due = (queue: HandleClaim['queue'], ms: number) => ({ queue, tries: 3, dueAt: new Date(ms).toISOString() })
  expect([next('new', 0), next('new', 1)]).toEqual([due('new', 10_000), due('new', 15_000)])
  expect([next('failing', 0), next('failing', 1)]).toEqual([due('failing', 20_000), due('failing', 40_000)])
  expect([next('again', 0), next('again', 1)]).toEqual([due('again', 240_000), due('again', 480_000)])
})

test('who gave no answer is one of those that fail, and waits twice as long each time', () => {
  const unknown = { outcome: 'unknown', retryAfterMs: 0 } as const
  const next = nextCheck(CLAIM, unknown, SCHEDULE, 0, () => 1)
  expect(next).toEqual({ queue: 'failing', tries: 4, dueAt: new Date(40_000).toISOString() })
})

import type { HandleClaim } from '@sluice/indexing/handles.ts'
import { expect, test } from 'vitest'
import { nextCheck } from './handle-schedule.ts'

const SCHEDULE = { refreshMs: 3_600_000, retryMs: 5_000, noneMs: 60_000, capMs: 600_000 }
const CLAIM: HandleClaim = { did: 'did:web:a.example', queue: 'new', askedAt: '', tries: 3, imported: null, until: '' }

test('who was turned away stays where it is and as often tried as it was, and is due within seconds', () => {
  for (const queue of ['new', 'again', 'failing'] as const) {
    const next = (random: number) =>
      nextCheck({ ...CLAIM, queue }, { outcome: 'turned-away', retryAfterMs: 1_000 }, SCHEDULE, 0, () => random)
    expect(next(0)).toEqual({ queue, tries: 3, dueAt: new Date(10_000).toISOString() })
    expect(next(1)).toEqual({ queue, tries: 3, dueAt: new Date(15_000).toISOString() })
  }
})

test('who gave no answer is one of those that fail, and waits twice as long each time', () => {
  const unknown = { outcome: 'unknown', retryAfterMs: 0 } as const
  const next = nextCheck(CLAIM, unknown, SCHEDULE, 0, () => 1)
  expect(next).toEqual({ queue: 'failing', tries: 4, dueAt: new Date(40_000).toISOString() })
})

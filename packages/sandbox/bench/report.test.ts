import { expect, test } from 'vitest'
import { ratiosOf } from './report.ts'

const row = (who: string, rate: number, size = 0) => ({ size, who, events: 1_000, costs: { seconds: 1_000 / rate } })

test('ratios are of the medians of each size, so that one slow round decides nothing', () => {
  const ours = [100, 10, 90].map((rate) => row('ours × 1', rate))
  const floors = [200, 100].flatMap((rate) => [row('COPY by key', rate), row('COPY by arrival', 2 * rate)])
  const larger = [row('ours × 1', 50, 7), row('official', 5, 7)]
  expect(ratiosOf([...ours, row('official', 3), ...floors, ...larger])).toEqual([
    'at 0: ours/official 30.0, ours/COPY by key 0.60, by arrival 0.30',
    'at 7: ours/official 10.0, ours/COPY by key NaN, by arrival NaN',
  ])
})

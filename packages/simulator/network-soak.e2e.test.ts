/** D1–D9, A1–A4 on a real network: `npm run simulate -- --network --minutes 60` for longer. */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { networkSoak } from './network-soak.ts'

test('two rounds of kills and outages on a real network end each in what the PDS holds', async () => {
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  const { problems, fired, guests, vitals } = await networkSoak({
    seed: 1,
    minutes: 0.8,
    roundSeconds: 24,
    people: 6,
    say,
  })
  expect(problems).toEqual([])
  expect(fired.get('kill -9')).toBeGreaterThan(0)
  expect(guests.get('join')).toBeGreaterThan(0)
  expect(vitals).toHaveLength(3)
})

/**
 * C7: our rows are those of the official AppView's own indexer for the same network, table by table; and the AppView
 * answers the same from either database.
 *
 *   SEEDS=1-20 OPERATIONS=1000 node node_modules/vitest/vitest.mjs run --project e2e packages/indexing/oracle/oracle.e2e.test.ts
 */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startOfficialReader } from '@sluice/sandbox/official-appview-reader.ts'
import { describe } from 'vitest'
import { allowances, explain } from './allowed.ts'
import { ask, questions } from './answers.ts'
import { compare, describeDifference } from './compare.ts'
import { Comparison, type Compared } from './comparison.ts'
import { evenOut } from './even-out.ts'
import { plantFaults } from './faults.ts'
import { REFUSALS } from './feeder.ts'
import { runScript } from './run.ts'
import { Tables } from './tables.ts'

const SEEDS = seedsOf(process.env.SEEDS ?? '1,2')
const OPERATIONS = Number(process.env.OPERATIONS ?? 300)
const TIMEOUT_MS = 120_000 + OPERATIONS * 600
/** How often each allowance was needed. */
const used = new Map<string, number>()

describe.each(SEEDS)('seed %i', (seed) => {
  test(
    'rows and answers are those of the official AppView',
    { timeout: TIMEOUT_MS },
    async ({ emptyDatabase, database, redisUrl }) => {
      await using comparison = await Comparison.start({ seed, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
      const { network, appview, official, ours } = comparison
      const { traffic, ...compared } = await runScript(comparison, { seed, operations: OPERATIONS, people: 6 })
      // What was asked for has happened.
      expect(traffic.writes).toBeGreaterThan(OPERATIONS * 0.8)
      expect(traffic.deleted.size).toBe(1)
      expect(compared.batches).toBeGreaterThan(2)
      expect(refusedByUs(compared)).toEqual(refusedByThem(compared))

      expect(compared.stages).toHaveLength(2)
      for (const both of compared.stages) {
        const explanation = explain(compare(both.official, both.ours), both)
        for (const [id, count] of explanation.used) used.set(id, (used.get(id) ?? 0) + count)
        expect(explanation.unexplained.map(describeDifference)).toEqual([])
      }

      // A comparison that explains everything would find nothing either.
      const noticed = plantFaults(compared.stages[0]!)
      expect(noticed.planted).toBeGreaterThan(300)
      expect(noticed.never).toEqual([])
      expect(noticed.missed / noticed.planted).toBeLessThan(0.05)

      // Which answers depend on rows that are allowed to differ is not known: for the answers, these are made the same.
      const last = compared.stages.at(-1)!
      await evenOut(ours, compare(last.official, last.ours))
      expect(compare(await Tables.read(official), await Tables.read(ours))).toEqual([])
      await using reader = await startOfficialReader({ network, model: appview, postgresUrl: database })
      const viewers = traffic.people.slice(0, 1).map(({ did }) => did)
      const asked = await ask([appview.url, reader.url], questions(last.official, viewers), network.labeler.did)
      expect(asked.different).toEqual([])
      expect(asked.answered.size).toBeGreaterThanOrEqual(15)
      expect([...asked.answered.values()].reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(30)
      report(seed, compared, last.official.size, asked.answered)
    },
  )
})

/** The same record versions, each side in its own words; those of collections that nobody knows are left out. */
function refusedByUs({ refused }: Compared): string[] {
  return refused
    .filter(({ reason }) => reason !== 'not-indexed')
    .map(({ uri }) => uri)
    .toSorted()
}

function refusedByThem({ failed }: Compared): string[] {
  return failed
    .filter(({ reason }) => REFUSALS.some((refusal) => refusal === reason))
    .map(({ uri }) => uri)
    .toSorted()
}

function report(
  seed: number,
  { events, batches, failed }: Compared,
  rows: number,
  answered: Map<string, number>,
): void {
  const answers = [...answered.values()].reduce((sum, count) => sum + count, 0)
  const allowed = allowances.map(({ id }) => `${used.get(id) ?? 0} × ${id}`).join(' · ')
  console.log(
    `seed ${seed}: ${events.length} events in ${batches} batches, ${failed.length} refused, ${rows} rows, ${answers} answers of ${answered.size} methods\n` +
      `allowed differences so far: ${allowed}`,
  )
}

/** `1,2,5` or `1-20`. */
function seedsOf(text: string): number[] {
  const range = /^(\d+)-(\d+)$/.exec(text)
  if (!range) return text.split(',').map(Number)
  const [first, last] = [Number(range[1]), Number(range[2])]
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
}

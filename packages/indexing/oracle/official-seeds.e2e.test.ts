/**
 * C7 for the networks of the official package's own tests: the rows are the same, and the answers are the same from
 * either database as it stands, with nothing evened out.
 *
 *   OFFICIAL_SEEDS=all node node_modules/vitest/vitest.mjs run --project e2e packages/indexing/oracle/official-seeds.e2e.test.ts
 */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { startOfficialReader } from '@sluice/sandbox/official-appview-reader.ts'
import { OFFICIAL_SEEDS, OfficialSeedClient } from '@sluice/sandbox/official-appview-seeds.ts'
import { explain } from './allowed.ts'
import { ask, questions } from './answers.ts'
import { compare, describeDifference } from './compare.ts'
import { Comparison } from './comparison.ts'

/** Those that hold most of the others. */
const USUAL = ['author feed', 'quotes', 'follows', 'verifications']
const CHOSEN = chosen(process.env.OFFICIAL_SEEDS)
const MUTE = `insert into mute ("mutedByDid", "subjectDid", "createdAt") values ($1, $2, $3)`

test.for(CHOSEN)('the seed "%s"', { timeout: 600_000 }, async (name, { emptyDatabase, database, redisUrl }) => {
  await using comparison = await Comparison.start({ seed: 1, officialUrl: emptyDatabase, ourUrl: database, redisUrl })
  const { network, appview, official } = comparison
  const client = new OfficialSeedClient(network, appview, () => comparison.settled())
  await OFFICIAL_SEEDS[name]!(client)
  for (const { by, subject } of client.muted) await official.query(MUTE, [by, subject, new Date().toISOString()])
  // Its tests do this by hand.
  await official.query(`update actor set "trustedVerifier" = true where handle like 'verifier%'`)
  await comparison.stage()
  await comparison.copyPrivate()
  const { stages, failed, events } = await comparison.finish([])
  expect(failed).toEqual([])
  expect(events.length).toBeGreaterThan(Object.keys(client.dids).length)

  const last = stages.at(-1)!
  const { unexplained, used } = explain(compare(last.official, last.ours), last)
  expect(unexplained.map(describeDifference)).toEqual([])
  await using reader = await startOfficialReader({ network, model: appview, postgresUrl: database })
  const viewers = Object.values(client.dids).slice(0, 2)
  const asked = await ask([appview.url, reader.url], questions(last.official, viewers), network.labeler.did)
  expect(asked.different).toEqual([])
  const answers = [...asked.answered.values()].reduce((sum, count) => sum + count, 0)
  expect(answers).toBeGreaterThanOrEqual(30)
  const allowed = [...used].map(([id, count]) => `${count} × ${id}`).join(' · ')
  console.log(
    `${name}: ${events.length} events, ${last.official.size} rows, ${answers} answers; allowed: ${allowed || 'nothing'}`,
  )
})

/** Names, separated by commas; or `all`. */
function chosen(names: string | undefined): string[] {
  if (names === 'all') return Object.keys(OFFICIAL_SEEDS)
  return names?.split(',') ?? USUAL
}

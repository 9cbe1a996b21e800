import { readCarWithRoot, verifyRepo } from '@atproto/repo'
import { expect, test } from './fixtures.ts'
import { startNetwork } from './network.ts'
import { Population } from './population.ts'

test('after populate and after traffic the repositories hold exactly what the population says', async ({
  emptyDatabase,
}) => {
  await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
  const population = await Population.create(network, { seed: 3, people: 6, before: 300, during: 60 })
  await population.populate()
  const populated = await repositories(population)
  expect(populated).toEqual(expected(population))
  await population.traffic({ signal: AbortSignal.abort() })
  expect(await repositories(population)).toEqual(populated)
  const pause = new AbortController()
  const begun = population.traffic({ paceMs: 20, signal: pause.signal })
  await expect.poll(() => population.records.size).not.toBe(populated.length)
  pause.abort()
  await begun
  const paused = await repositories(population)
  expect(paused).toEqual(expected(population))
  await population.traffic()
  const final = await repositories(population)
  expect(final).toEqual(expected(population))
  expect(paused).not.toEqual(populated)
  expect(final).not.toEqual(paused)

  expect(population.deleted.size).toBeGreaterThan(10)
  expect([...population.labels.values()].some(({ neg }) => neg)).toBe(true)
  expect([...population.labels.values()].some(({ neg, uri }) => !neg && uri.startsWith('at://'))).toBe(true)
  await expect(population.traffic()).rejects.toThrow('this plan has been carried out')
})

/** Path by path, as the PDS exports them. */
async function repositories({ people }: Population): Promise<string[]> {
  const paths: string[] = []
  for (const { agent, did } of people) {
    const { data } = await agent.com.atproto.sync.getRepo({ did })
    const { root, blocks } = await readCarWithRoot(data)
    const { creates } = await verifyRepo(blocks, root, did)
    paths.push(...creates.map(({ collection, rkey, cid }) => `at://${did}/${collection}/${rkey} ${cid.toString()}`))
  }
  return paths.toSorted()
}

function expected({ records }: Population): string[] {
  return [...records].map(([uri, { cid }]) => `${uri} ${cid}`).toSorted()
}

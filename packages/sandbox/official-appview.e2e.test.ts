import { expect, test } from './fixtures.ts'
import { startNetwork } from './network.ts'
import { startOfficialAppView } from './official-appview.ts'
import { Population } from './population.ts'
import { queryOnce } from './postgres.ts'

test('the official AppView indexes our network, before and while it runs, and answers', async ({
  emptyDatabase,
  redisUrl,
}) => {
  // The labeler has a schema of its own: one database serves both.
  await using network = await startNetwork({ labelerDatabaseUrl: emptyDatabase })
  const population = await Population.create(network, { seed: 5, people: 4, before: 60, during: 30 })
  await population.populate()
  await using appview = await startOfficialAppView(network, { postgresUrl: emptyDatabase, redisUrl })
  await appview.caughtUp()
  expect(await recordUris(emptyDatabase)).toEqual(knownUris(population))
  await population.traffic()
  await appview.caughtUp()
  expect(await recordUris(emptyDatabase)).toEqual(knownUris(population))
  expect(appview.errors).toEqual([])

  const { did, handle } = population.people[0]!
  const response = await fetch(`${appview.url}/xrpc/app.bsky.actor.getProfile?actor=${did}`)
  expect(await response.json()).toMatchObject({ did, handle })
})

async function recordUris(url: string): Promise<string[]> {
  const rows = await queryOnce<{ uri: string }>(url, 'SELECT uri FROM bsky.record ORDER BY uri')
  return rows.map(({ uri }) => uri)
}

/** It keeps no record of a lexicon that it does not know. */
function knownUris({ records }: Population): string[] {
  return [...records].flatMap(([uri, { collection }]) => (collection.startsWith('app.bsky.') ? [uri] : [])).toSorted()
}

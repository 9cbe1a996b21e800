/** The floor can be measured after any measurement, also when a record has taken over the rows of an older duplicate. */
import { expect, test } from '../fixtures.ts'
import { queryOnce } from '../postgres.ts'
import type { Bed, Costs } from './bed.ts'
import { measureFloor } from './floor.ts'

const [EARLIER, LATER] = ['at://did:plc:a/app.bsky.graph.follow/3a', 'at://did:plc:a/app.bsky.graph.follow/3b']

/** The test does not look at the costs. */
const bed: Pick<Bed, 'costs'> = {
  async costs(_database, act) {
    await act()
    return {} as Costs
  },
}

test('rows that the measured ones have replaced under a unique key are not in the way of COPY', async ({
  database,
  otherDatabase,
}) => {
  for (const url of [database, otherDatabase]) await queryOnce(url, FOLLOW, [LATER])
  const [row] = await queryOnce<{ since: string }>(database, 'select pg_current_xact_id()::text as since')
  await queryOnce(database, 'delete from bsky.follow')
  await queryOnce(database, FOLLOW, [EARLIER])

  await measureFloor(bed, { url: database, since: row!.since }, { name: '', url: otherDatabase }, 'key')

  expect(await queryOnce(otherDatabase, 'select uri from bsky.follow')).toEqual([{ uri: EARLIER }])
})

test.for([2, 3, 9])(
  'over %i connections every row is copied once too',
  async (connections, { database, otherDatabase }) => {
    const [row] = await queryOnce<{ since: string }>(database, 'select pg_current_xact_id()::text as since')
    const text = `
    insert into bsky.record (uri, cid, did, json, "indexedAt")
    select 'at://did:plc:a/app.bsky.feed.like/' || n, repeat('x', n * n), 'did:plc:a', '{}', '2026-01-01' from generate_series(1, 8) n`
    await queryOnce(database, text)

    await measureFloor(
      bed,
      { url: database, since: row!.since },
      { name: '', url: otherDatabase },
      'arrival',
      connections,
    )

    const copied = await queryOnce<{ size: number }>(
      otherDatabase,
      'select length(cid) as size from bsky.record order by 1',
    )
    expect(copied.map(({ size }) => size)).toEqual([1, 4, 9, 16, 25, 36, 49, 64])
  },
)

const FOLLOW = `
  insert into bsky.follow (uri, cid, creator, "subjectDid", "createdAt", "indexedAt")
  values ($1, 'bafy', 'did:plc:a', 'did:plc:b', '2026-01-01', '2026-01-01')`

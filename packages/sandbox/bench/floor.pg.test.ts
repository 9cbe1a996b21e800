/** The floor can be laid wherever a measurement ends: also where a record has taken over the rows of one from before it. */
import { expect, test } from '../fixtures.ts'
import { queryOnce } from '../postgres.ts'
import type { Bed, Costs } from './bed.ts'
import { measureFloor } from './floor.ts'

const [EARLIER, LATER] = ['at://did:plc:a/app.bsky.graph.follow/3a', 'at://did:plc:a/app.bsky.graph.follow/3b']

/** Its costs are nothing to us. */
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

test('over several connections every row is copied once too', async ({ database, otherDatabase }) => {
  const [row] = await queryOnce<{ since: string }>(database, 'select pg_current_xact_id()::text as since')
  await queryOnce(database, FOLLOW, [EARLIER])
  await queryOnce(database, `insert into bsky.record (uri, cid, did, json, "indexedAt") values ($1, 'bafy', 'did:plc:a', '{}', '2026-01-01')`, [EARLIER]) // prettier-ignore

  await measureFloor(bed, { url: database, since: row!.since }, { name: '', url: otherDatabase }, 'arrival', 3)

  const copied = 'select uri from bsky.follow union all select uri from bsky.record'
  expect(await queryOnce(otherDatabase, copied)).toEqual([{ uri: EARLIER }, { uri: EARLIER }])
})

const FOLLOW = `
  insert into bsky.follow (uri, cid, creator, "subjectDid", "createdAt", "indexedAt")
  values ($1, 'bafy', 'did:plc:a', 'did:plc:b', '2026-01-01', '2026-01-01')`

/**
 * A comparison while the live stream goes on: what is newer in the index than the export is no difference, and a repair
 * leaves it alone.
 */
import { readRepoExport } from '@sluice/atproto/repo-export.ts'
import { formatCid } from '@sluice/atproto/cid.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { applyBatch } from '@sluice/indexing/apply-batch.ts'
import { indexOn } from '@sluice/indexing/testing/index-on.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { compareRepo, forgetAge, repairEvents } from './verify-repo.ts'

const TIME = '2026-01-01T00:00:00.000Z'
const collection = 'app.bsky.feed.post'

/** One commit, and the event that the live stream makes of it. @param text null: the record is deleted */
function write(repo: TestRepo, rkey: string, text: string | null): StreamEvent {
  const record = text === null ? null : { $type: collection, text, createdAt: TIME }
  const { body } = repo.write([{ path: `${collection}/${rkey}`, record }])
  const common = {
    seq: body.seq,
    time: TIME,
    did: repo.did,
    commit: formatCid(repo.commit!),
    rev: repo.rev,
    collection,
    rkey,
  }
  if (record === null) return { type: 'delete', ...common }
  const { action, cid } = body.ops[0]!
  return { type: action === 'create' ? 'create' : 'update', ...common, cid: cid!.$link, record }
}

test('records that were created, changed or deleted after the export was made are newer here, and no repair touches them', async ({
  database,
}) => {
  await using index = indexOn(database)
  const repo = new TestRepo(testDid('alice'))
  await applyBatch(
    index,
    ['kept', 'changed', 'deleted'].map((rkey) => write(repo, rkey, 'as exported')),
  )
  const car = repo.export()
  // The host made the export before these.
  await applyBatch(index, [
    write(repo, 'created', 'later'),
    write(repo, 'changed', 'later'),
    write(repo, 'deleted', null),
  ])
  const held = async () => (await index.db.query('select uri, cid, rev from record order by uri')).rows
  const before = await held()
  expect(before).toHaveLength(3)

  using exported = await readRepoExport([car], { did: repo.did, signingKey: repo.key.did })
  const comparison = await compareRepo(index.db, index.collections, exported, { time: TIME })
  expect(comparison).toMatchObject({ records: 3, same: 1, newer: 3, differing: [] })
  await forgetAge(index.db, comparison)
  const events = [...repairEvents(exported, comparison, TIME)]
  expect(events).toEqual([])
  expect(await held()).toEqual(before)
})

test('a record that the repository no longer has, and that is not newer than the export, is extra, and its repair deletes it', async ({
  database,
}) => {
  await using index = indexOn(database)
  const repo = new TestRepo(testDid('alice'))
  await applyBatch(
    index,
    ['kept', 'extra'].map((rkey) => write(repo, rkey, 'as exported')),
  )
  // Its deletion was lost.
  write(repo, 'extra', null)
  using exported = await readRepoExport([repo.export()], { did: repo.did, signingKey: repo.key.did })
  const comparison = await compareRepo(index.db, index.collections, exported, { time: TIME })
  expect(comparison).toMatchObject({ same: 1, newer: 0, differing: [{ difference: 'extra' }] })
  await forgetAge(index.db, comparison)
  await applyBatch(index, [...repairEvents(exported, comparison, TIME)])
  const { rows } = await index.db.query<{ uri: string }>('select uri from record')
  expect(rows.map(({ uri }) => uri)).toEqual([`at://${repo.did}/${collection}/kept`])
})

/**
 * C5: a transaction that somebody holds open, however long, does not make everything that was written since it began
 * look as if it were written just now.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { uriOf } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'
import { WatchedPool } from './testing/watched-pool.ts'
import { whileHeld } from './testing/while-held.ts'

const MANY = 600

/** Until it is disposed of, in a transaction of its own. */
async function somebodyWrites({ db }: Index): Promise<AsyncDisposable> {
  const client = await db.acquire()
  await client.query('begin')
  await client.query('select pg_current_xact_id()')
  return {
    async [Symbol.asyncDispose]() {
      await client.query('rollback')
      client.release()
    },
  }
}

test.for(['made', 'taken back'])(
  'a gate that is %s on a post that is younger than an open transaction marks that post, and nothing below it is judged again',
  async (what, { database }) => {
    const story = new Story()
    await using index = indexOn(database)
    await using db = new WatchedPool({ url: database, schema: 'bsky', size: 4, role: 'test', byKey: true })
    const watched = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
    await using _open = await somebodyWrites(index)
    const root = story.post('ann', 'root')
    const replies = Array.from({ length: MANY }, () => story.reply('bob', root))
    const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [] }, root.rkey)
    await applyBatch(index, [root, ...replies])
    if (what === 'taken back') await applyBatch(index, [gate])
    await settleAll(index)
    await applyBatch(watched, [what === 'made' ? gate : story.delete(gate)])
    // More hangs on the gate than a batch looks at.
    expect(await settleAll(watched)).toBe(1)
    const { rows } = await index.db.query('select from post where "hasThreadGate"')
    expect(rows).toHaveLength(what === 'made' ? 1 : 0)
    const judged = db.asked.get('lock-post')!.times.map(({ rows: posts }) => posts)
    expect(judged.reduce((sum, posts) => sum + posts, 0)).toBeLessThan(10)
  },
)

test('what a transaction that began before others ended writes when a late root has been looked below is gone on from', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  // More than are judged at once: the reply is among the first, what it answers among the last.
  const others = Array.from({ length: 1_000 }, () => story.reply('bob', root))
  const moves = story.reply('zoe', root)
  const reply = story.reply('ann', moves)
  const edit = story.put('zoe', moves.collection, { text: 'of its own' }, moves.rkey)
  const meanwhile = story.post('eve', 'meanwhile')
  await using natural = indexOn(database)
  for (const batch of [[root, ...others, moves, reply], [edit], [meanwhile]]) await applyBatch(natural, batch)
  await using index = { ...indexOn(otherDatabase), room: { base: 2_000, each: 0, own: 0 } }
  await applyBatch(index, [...others, moves, reply])
  await whileHeld(index, ['select from post where uri = $1 for update', uriOf(moves)], async (waiting) => {
    const moved = applyBatch(index, [edit])
    await waiting(1)
    await applyBatch(index, [meanwhile])
    const settled = applyBatch(index, [root])
    await waiting(2)
    return [moved, settled]
  })
  const wanted = await snapshot(natural.db)
  expect(wanted.post!.filter((row) => row.includes('"invalidReplyRoot":true'))).toEqual([])
  expect(differences(wanted, await snapshot(index.db))).toEqual([])
})

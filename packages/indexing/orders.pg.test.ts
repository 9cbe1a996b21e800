/** C1, C5: orders of arrival and splits into batches that the random histories do not make, each a scene of its own. */
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const GATE = 'app.bsky.feed.threadgate'

async function apply(index: Index, batches: StreamEvent[][]): Promise<void> {
  for (const batch of batches) await applyBatch(index, batch)
}

test.for(['follow', 'list item'])(
  'C1, C5 a second %s that waits lets its author in from when it was made on, though the one that has the row was made later',
  async (kind, { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const list = story.put('ann', 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
    const rule =
      kind === 'follow' ? { $type: `${GATE}#followingRule` } : { $type: `${GATE}#listRule`, list: uriOf(list) }
    const gate = story.put('ann', GATE, { post: uriOf(root), allow: [rule] }, root.rkey)
    const [collection, more] =
      kind === 'follow' ? ['app.bsky.graph.follow', {}] : ['app.bsky.graph.listitem', { list: uriOf(list) }]
    const ofCat = story.put('ann', collection, { ...more, subject: story.did('cat') })
    const ofBob = story.put('ann', collection, { ...more, subject: story.did('bob') })
    const reply = story.reply('bob', root)
    const edited = story.put('ann', collection, { ...more, subject: story.did('bob') }, ofCat.rkey)
    await using natural = indexOn(database)
    await using late = indexOn(otherDatabase)
    const first = [root, list, gate, ofCat, ofBob]
    await apply(natural, [first, [reply], [edited]])
    await apply(late, [first, [edited], [reply]])
    expect(differences(await snapshot(natural.db), await snapshot(late.db))).toEqual([])
  },
)

test.for(['somebody else', 'the same'])(
  'C1 the last version of a verification says who is told that it ended, though its edit and its end come in one batch: it was of %s before',
  async (what, { database, otherDatabase }) => {
    const story = new Story()
    const verify = (subject: string, rkey?: string) =>
      story.put(
        'ann',
        'app.bsky.graph.verification',
        { subject: story.did(subject), handle: 'a.test', displayName: 'A' },
        rkey,
      )
    const first = verify(what === 'the same' ? 'cat' : 'bob')
    const edited = verify('cat', first.rkey)
    const gone = story.delete(edited)
    await using natural = indexOn(database)
    await using batched = indexOn(otherDatabase)
    await apply(natural, [[first], [edited], [gone]])
    await apply(batched, [[first], [edited, gone]])
    expect(differences(await snapshot(natural.db), await snapshot(batched.db))).toEqual([])
  },
)

test('C5 a late edit above a deleted post reaches replies whose clock is behind that of what they answer', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const above = story.reply('ann', root)
  // Its author's clock is behind: by it, the reply was written before what it answers.
  const early = story.put('eve', 'app.bsky.feed.post', { text: 'placeholder' })
  const edited = story.put('ann', 'app.bsky.feed.post', { text: 'of its own now' }, above.rkey)
  const between = story.reply('bob', above)
  const reply = {
    ...early,
    record: {
      ...early.record,
      reply: { root: { uri: uriOf(root), cid: root.cid }, parent: { uri: uriOf(between), cid: between.cid } },
    },
  }
  const gone = story.delete(between)
  await using natural = indexOn(database)
  await using late = indexOn(otherDatabase)
  await apply(natural, [[root], [above], [edited], [between], [reply], [gone]])
  await apply(late, [[root], [above], [between], [reply], [gone], [edited]])
  expect(
    differences(await snapshot(natural.db, { withoutTimes: true }), await snapshot(late.db, { withoutTimes: true })),
  ).toEqual([])
})

test('C1 an earlier gate that comes late, with an export that repeats the one in force, ended when that began', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const open = story.put('ann', GATE, { post: uriOf(root) }, root.rkey)
  const closed = story.put('ann', GATE, { post: uriOf(root), allow: [] }, root.rkey)
  const reply = story.reply('bob', root)
  const { time, did, commit, rev } = story.post('ann', 'the head')
  const path = `${GATE}/${root.rkey}`
  const exported: StreamEvent[] = [
    { ...closed, seq: -1, time, commit, rev },
    { type: 'repo', time, did, commit, rev, range: [path, `${path}~`], keys: [path] },
  ]
  await using natural = indexOn(database)
  await using together = indexOn(otherDatabase)
  await apply(natural, [[root], [open], [closed], [reply], exported])
  await apply(together, [[root], [closed], [reply], [...exported, open]])
  const wanted = await snapshot(natural.db, { withoutTimes: true })
  expect(differences(wanted, await snapshot(together.db, { withoutTimes: true }))).toEqual([])
})

test('C1 a post that comes again with an export that repeats it, when both are late, was there until it was deleted', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const post = story.reply('cat', root)
  const { time, did, commit, rev } = story.post('cat', 'the head')
  const reply = story.reply('bob', post)
  const gone = story.delete(post)
  const path = `${post.collection}/${post.rkey}`
  const exported: StreamEvent[] = [
    { ...post, seq: -1, time, commit, rev },
    { type: 'repo', time, did, commit, rev, range: [path, `${path}~`], keys: [path] },
  ]
  await using natural = indexOn(database)
  await using together = indexOn(otherDatabase)
  await apply(natural, [[root], [post], exported, [reply], [gone]])
  await apply(together, [[root], [post], [gone], [...exported, post], [reply]])
  const wanted = await snapshot(natural.db, { withoutTimes: true })
  expect(differences(wanted, await snapshot(together.db, { withoutTimes: true }))).toEqual([])
})

/** C1, C5: orders of arrival and splits into batches that the random histories do not make, each a scene of its own. */
import { pathOf, uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'
import { whileHeld } from './testing/while-held.ts'

const GATE = 'app.bsky.feed.threadgate'

async function apply(index: Index, batches: StreamEvent[][]): Promise<void> {
  for (const batch of batches) await applyBatch(index, batch)
}

/**
 * A gate that lets Bob in by what Ann wrote second; what she wrote first is of Bob only since after his reply, and has
 * the row.
 */
function letInByWaiting(story: Story, kind: 'follow' | 'list item') {
  const root = story.post('ann', 'root')
  const list = story.put('ann', 'app.bsky.graph.list', { name: 'friends', purpose: 'app.bsky.graph.defs#curatelist' })
  const rule = kind === 'follow' ? { $type: `${GATE}#followingRule` } : { $type: `${GATE}#listRule`, list: uriOf(list) }
  const gate = story.put('ann', GATE, { post: uriOf(root), allow: [rule] }, root.rkey)
  const [collection, more] =
    kind === 'follow' ? ['app.bsky.graph.follow', {}] : ['app.bsky.graph.listitem', { list: uriOf(list) }]
  const ofCat = story.put('ann', collection, { ...more, subject: story.did('cat') })
  const ofBob = story.put('ann', collection, { ...more, subject: story.did('bob') })
  const reply = story.reply('bob', root)
  const edited = story.put('ann', collection, { ...more, subject: story.did('bob') }, ofCat.rkey)
  return { first: [root, list, gate, ofCat], ofBob, reply, edited }
}

test.for(['follow', 'list item'] as const)(
  'C1, C5 a second %s that waits lets its author in from when it was made on, though the one that has the row was made later',
  async (kind, { database, otherDatabase }) => {
    const { first, ofBob, reply, edited } = letInByWaiting(new Story(), kind)
    await using natural = indexOn(database)
    await using late = indexOn(otherDatabase)
    await apply(natural, [[...first, ofBob], [reply], [edited]])
    await apply(late, [[...first, ofBob], [edited], [reply]])
    expect(differences(await snapshot(natural.db), await snapshot(late.db))).toEqual([])
  },
)

test.for(['follow', 'list item'] as const)(
  'C5 a second %s that begins to wait while a reply is judged without it lets the author of that in',
  async (kind, { database }) => {
    const story = new Story()
    const earlier = story.post('bob', 'counted')
    const { first, ofBob, reply, edited } = letInByWaiting(story, kind)
    await using index = indexOn(database)
    await apply(index, [[earlier, ...first], [edited]])
    // Counters are written last: what waits for them has judged.
    await whileHeld(index, ['select from profile_agg where did = $1 for update', reply.did], async (waiting) => {
      const judged = applyBatch(index, [reply])
      await waiting(1)
      await applyBatch(index, [ofBob])
      return [judged]
    })
    const { rows } = await index.db.query(
      `select coalesce("violatesThreadGate", false) as violates, (select uri from duplicate_record) as waits from post where uri = $1`,
      [uriOf(reply)],
    )
    expect(rows).toEqual([{ violates: false, waits: uriOf(ofBob) }])
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

test.for(
  (['post', 'gate', 'follow'] as const).flatMap((kind) =>
    (['itself again', 'two exports', 'two exports, and nothing before'] as const).map((how) => [kind, how] as const),
  ),
)(
  'C1 a %s that an export repeats was there until it was deleted, whatever comes in one batch with the export (%s)',
  async ([kind, how], { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const following = story.put(
      'ann',
      GATE,
      { post: uriOf(root), allow: [{ $type: `${GATE}#followingRule` }] },
      root.rkey,
    )
    const before = kind === 'follow' ? [root, following] : [root]
    const things = {
      post: () => story.reply('ann', root),
      gate: () => story.put('ann', GATE, { post: uriOf(root), allow: [] }, root.rkey),
      follow: () => story.follow('ann', 'bob'),
    }
    const thing = things[kind]()
    const path = `${thing.collection}/${thing.rkey}`
    const exported = (): StreamEvent[] => {
      const { time, did, commit, rev } = story.post('ann', 'the head')
      return [
        { ...thing, seq: -1, time, commit, rev },
        { type: 'repo', time, did, commit, rev, range: [path, `${path}~`], keys: [path] },
      ]
    }
    const [one, two] = [exported(), exported()]
    const reply = story.reply('bob', kind === 'post' ? thing : root)
    const gone = story.delete(thing)
    const first = how === 'two exports, and nothing before' ? [] : [[thing]]
    const beside = how === 'itself again' ? [...one, thing] : [...one, ...two]
    await using natural = indexOn(database)
    await using together = indexOn(otherDatabase)
    await apply(natural, [before, ...first, one, ...(how === 'itself again' ? [] : [two]), [reply], [gone]])
    await apply(together, [before, ...first, beside, [gone], [reply]])
    const wanted = await snapshot(natural.db, { withoutTimes: true })
    expect(differences(wanted, await snapshot(together.db, { withoutTimes: true }))).toEqual([])
  },
)

test('C1 who was told of a verification keeps its date, though an export repeats it in the batch that deletes it', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const said = { subject: story.did('bob'), handle: 'a.test', displayName: 'A', createdAt: '2027-01-01T00:00:00.000Z' }
  const verified = story.put('ann', 'app.bsky.graph.verification', said)
  const { time, commit, rev } = story.post('ann', 'the head')
  const exported = { ...verified, seq: -1, time, commit, rev }
  const gone = story.delete(verified)
  await using natural = indexOn(database)
  await using batched = indexOn(otherDatabase)
  await apply(natural, [[verified], [exported], [gone]])
  await apply(batched, [[verified], [exported, gone]])
  expect(differences(await snapshot(natural.db), await snapshot(batched.db))).toEqual([])
})

test.for(['\u0000', '\\ud800', 'a \\u0000 that is none'])(
  'I7 a second follow with %j in it waits, and holds up neither the replies that a gate lets in by it nor what settles them',
  async (odd, { database }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const gate = story.put('ann', GATE, { post: uriOf(root), allow: [{ $type: `${GATE}#followingRule` }] }, root.rkey)
    const first = story.put('ann', 'app.bsky.graph.follow', { subject: story.did('bob') })
    const second = story.put('ann', 'app.bsky.graph.follow', { subject: story.did('bob'), odd })
    await using index = indexOn(database)
    await apply(index, [[root, gate, first], Array.from({ length: 700 }, () => story.reply('bob', root)), [second]])
    await settleAll(index)
    await apply(index, [[story.reply('bob', root)]])
    const { rows } = await index.db.query('select from post where "violatesThreadGate"')
    expect(rows).toHaveLength(0)
    expect((await index.db.query('select from duplicate_record')).rows).toHaveLength(1)
  },
)

test.for(
  (['post', 'gate', 'follow'] as const).flatMap((kind) =>
    (
      ['between two parts of', 'before a part, and that after the deletion, of', 'after', 'in one batch with'] as const
    ).map((when) => [kind, when] as const),
  ),
)(
  'C1 a %s that two exports have was there until it was deleted, though the older one comes %s the newer one',
  async ([kind, when], { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const following = story.put(
      'ann',
      GATE,
      { post: uriOf(root), allow: [{ $type: `${GATE}#followingRule` }] },
      root.rkey,
    )
    const before = kind === 'follow' ? [root, following] : [root]
    const things = {
      post: () => story.reply('cat', root),
      gate: () => story.put('ann', GATE, { post: uriOf(root), allow: [] }, root.rkey),
      follow: () => story.follow('ann', 'bob'),
    }
    const thing = things[kind]()
    const name = kind === 'post' ? 'cat' : 'ann'
    const path = `${thing.collection}/${thing.rkey}`
    const exported = (): [StreamEvent, StreamEvent] => {
      const { time, did, commit, rev } = story.post(name, 'the head')
      return [
        { ...thing, seq: -1, time, commit, rev },
        { type: 'repo', time, did, commit, rev, range: [path, `${path}~`], keys: [path] },
      ]
    }
    const [older, [newer, range]] = [exported(), exported()]
    const reply = story.reply('bob', kind === 'post' ? thing : root)
    const gone = story.delete(thing)
    const batches = {
      'between two parts of': [[range], older, [newer], [gone]],
      'before a part, and that after the deletion, of': [[range], older, [gone], [newer]],
      after: [[newer, range], older, [gone]],
      'in one batch with': [[gone], [...older, newer, range]],
    }[when]
    await using natural = indexOn(database)
    await using late = indexOn(otherDatabase)
    await apply(natural, [before, older, [newer, range], [reply], [gone]])
    await apply(late, [before, ...batches, [reply]])
    const wanted = await snapshot(natural.db, { withoutTimes: true })
    expect(differences(wanted, await snapshot(late.db, { withoutTimes: true }))).toEqual([])
  },
)

test('C1 a post that exports repeat, one of them of its own commit, was there until it was deleted, though all come again after that', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const key = (): string => story.post('zed', 'whose key is of this time').rkey
  const root = story.put('ann', 'app.bsky.feed.post', { text: 'root' }, key())
  const between = story.reply('bob', root)
  const head = story.post('ann', 'the head')
  const reply = story.reply('fay', between)
  const gone = story.delete(root)
  const exported = ({ time, did, commit, rev }: CreateEvent): StreamEvent[] => [
    { ...root, seq: -1, time, commit, rev },
    { type: 'repo', time, did, commit, rev, range: ['', ''], keys: [pathOf(root)] },
  ]
  const [one, two] = [exported(root), exported(head)]
  await using natural = indexOn(database)
  await using late = indexOn(otherDatabase)
  await apply(natural, [[root], one, [between], two, [reply], [gone]])
  await apply(late, [[root], [between], [...one, gone], [...two, gone, root], [reply]])
  const wanted = await snapshot(natural.db, { withoutTimes: true })
  expect(differences(wanted, await snapshot(late.db, { withoutTimes: true }))).toEqual([])
})

test.for(['deleted', 'edited'] as const)(
  'C1 what an export repeats stays, though a commit from before comes between its range and its record (%s)',
  async (how, { database, otherDatabase }) => {
    const story = new Story()
    const post = story.post('bob', 'p')
    const one = story.like('ann', post)
    const subject = { uri: uriOf(one), cid: one.cid }
    const between = how === 'deleted' ? story.delete(one) : story.put('ann', one.collection, { subject }, one.rkey)
    const again = { ...story.like('ann', post), rkey: one.rkey, cid: one.cid, record: one.record }
    const { time, did, commit, rev } = story.post('ann', 'the head')
    const path = pathOf(one)
    const exported: StreamEvent = { ...again, seq: -1, time, commit, rev }
    const range: StreamEvent = { type: 'repo', time, did, commit, rev, range: [path, `${path}~`], keys: [path] }
    await using natural = indexOn(database)
    await using late = indexOn(otherDatabase)
    await apply(natural, [[post], [one], [between], [again], [range, exported]])
    await apply(late, [[post], [one], [range], [between], [exported], [again]])
    const wanted = await snapshot(natural.db, { withoutTimes: true })
    expect(differences(wanted, await snapshot(late.db, { withoutTimes: true }))).toEqual([])
  },
)

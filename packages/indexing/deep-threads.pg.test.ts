/**
 * C5: what comes late to the top of a thread counts down to its last reply, however deep, whatever is gone in between,
 * and whatever others write at the same moment.
 */
import { uriOf, type CreateEvent, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { deriveOnward } from './derive-onward.ts'
import { indexOn } from './testing/index-on.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'
import { whileHeld } from './testing/while-held.ts'
import { momentNow } from './unseen.ts'

async function apply(index: Index, events: readonly StreamEvent[]): Promise<void> {
  for (const event of events) await applyBatch(index, [event])
}

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes: true })
  return rows
}

const mentioning = (story: Story, name: string): object => ({
  facets: [
    {
      index: { byteStart: 0, byteEnd: 1 },
      features: [{ $type: 'app.bsky.richtext.facet#mention', did: story.did(name) }],
    },
  ],
})

function gated(story: Story, post: CreateEvent, rule: string): CreateEvent {
  const allow = [{ $type: `app.bsky.feed.threadgate#${rule}` }]
  return story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(post), allow }, post.rkey)
}

/** Ann's answers to herself, one below the other. */
function lineBelow(story: Story, parent: CreateEvent, depth: number): CreateEvent[] {
  const line = [parent]
  while (line.length <= depth) line.push(story.reply('ann', line.at(-1)!))
  return line.slice(1)
}

/**
 * What one of the columns must say of some reply in the end, and of some reply it must not, so that the story is about
 * something.
 */
interface Told {
  events: RecordEvent[]
  /** It arrives after all others. */
  last: RecordEvent
  says: string
}

const LATE: Record<string, (story: Story) => Told> = {
  'an edit that mentions whom the gate lets in then'(story) {
    const root = story.post('ann', 'root')
    const line = lineBelow(story, root, 6)
    const before = [root, gated(story, root, 'mentionRule'), ...line, story.reply('bob', line.at(-1)!)]
    const last = story.put('ann', root.collection, { ...root.record, ...mentioning(story, 'bob') }, root.rkey)
    return { events: [...before, last, story.reply('bob', line.at(-1)!)], last, says: '"violatesThreadGate":true' }
  },
  'an edit that mentions nobody any more'(story) {
    const root = story.post('ann', 'root', mentioning(story, 'bob'))
    const line = lineBelow(story, root, 6)
    const before = [root, gated(story, root, 'mentionRule'), ...line, story.reply('bob', line.at(-1)!)]
    const last = story.put('ann', root.collection, { text: 'root' }, root.rkey)
    return { events: [...before, last, story.reply('bob', line.at(-1)!)], last, says: '"violatesThreadGate":true' }
  },
  'the end of a root, by whose mentions its gate let in'(story) {
    const root = story.post('ann', 'root', mentioning(story, 'bob'))
    const line = lineBelow(story, root, 6)
    const before = [root, gated(story, root, 'mentionRule'), ...line, story.reply('bob', line.at(-1)!)]
    const last = story.delete(root)
    return { events: [...before, last, story.reply('bob', line.at(-1)!)], last, says: '"violatesThreadGate":true' }
  },
  'an earlier version, by whose mentions the gate let in'(story) {
    const last = story.post('ann', 'root', mentioning(story, 'bob'))
    const line = lineBelow(story, last, 6)
    const before = [last, gated(story, last, 'mentionRule'), ...line, story.reply('bob', line.at(-1)!)]
    const edited = story.put('ann', last.collection, { text: 'root' }, last.rkey)
    return { events: [...before, edited, story.reply('bob', line.at(-1)!)], last, says: '"violatesThreadGate":true' }
  },
  'a version between two, by whose mentions the gate let in'(story) {
    const root = story.post('ann', 'root')
    const line = lineBelow(story, root, 6)
    const before = [root, gated(story, root, 'mentionRule'), ...line, story.reply('bob', line.at(-1)!)]
    const last = story.put('ann', root.collection, { ...root.record, ...mentioning(story, 'bob') }, root.rkey)
    const between = story.reply('bob', line.at(-1)!)
    const edited = story.put('ann', root.collection, { text: 'root' }, root.rkey)
    const events = [...before, last, between, edited, story.reply('bob', line.at(-1)!)]
    return { events, last, says: '"violatesThreadGate":true' }
  },
  'an earlier version, by whose mentions the gate let in who answered in another thread'(story) {
    const last = story.post('ann', 'root', mentioning(story, 'bob'))
    const gate = gated(story, last, 'mentionRule')
    const stray = story.reply('bob', story.post('cat', 'of another thread'), {})
    const { reply } = stray.record as { reply: { root: unknown; parent: unknown } }
    stray.record = { ...stray.record, reply: { ...reply, root: { uri: uriOf(last), cid: last.cid } } }
    const edited = story.put('ann', last.collection, { text: 'root' }, last.rkey)
    return { events: [last, gate, stray, edited, story.reply('bob', last)], last, says: '"violatesThreadGate":true' }
  },
  'a root, above five that are gone'(story) {
    const root = story.post('ann', 'root')
    const line = lineBelow(story, root, 5)
    const reply = story.reply('bob', line.at(-1)!)
    return { events: [root, ...line, reply, ...line.map((post) => story.delete(post))], last: root, says: uriOf(reply) }
  },
  'a root, above five that are in other threads since'(story) {
    const root = story.post('ann', 'root')
    const line = lineBelow(story, root, 5)
    const reply = story.reply('bob', line.at(-1)!)
    const moved = line.map(({ collection, rkey }) => story.put('ann', collection, { text: 'of its own' }, rkey))
    return { events: [root, ...line, reply, ...moved], last: root, says: uriOf(reply) }
  },
  'the end of a root, above five of later that are gone'(story) {
    const root = story.post('ann', 'root')
    const last = story.delete(root)
    const line = lineBelow(story, root, 5)
    const reply = story.reply('bob', line.at(-1)!)
    const ends = line.map((post) => story.delete(post))
    return { events: [root, last, ...line, reply, ...ends], last, says: '"invalidReplyRoot":true' }
  },
}

test.for(Object.entries(LATE))(
  '%s, that arrives last counts as if it had come in time',
  async ([, tell], { database, otherDatabase }) => {
    const { events, last, says } = tell(new Story())
    await using natural = indexOn(database)
    await apply(natural, events)
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes(says))).not.toHaveLength(0)
    await using index = indexOn(otherDatabase)
    await apply(index, [...events.filter((event) => event !== last), last])
    expect(differences(wanted, await rowsOf(index))).toEqual([])
  },
)

test('a late root counts down to the last reply, through more rounds than one goes round in a circle', async ({
  database,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const line = lineBelow(story, root, 100)
  await using index = indexOn(database)
  await applyBatch(index, line)
  await applyBatch({ ...index, room: { base: 0, each: 0, own: 0 } }, [root])
  const found = await index.db.session(momentNow)
  const [first] = line.map(uriOf)
  await deriveOnward(index.db, index.collections, [first!], { found, limits: { idleRounds: 3 } })
  const { rows } = await index.db.query('select from post where "invalidReplyRoot"')
  expect(rows).toEqual([])
})

test('a reply deep in a thread ends as its root says, though both are written at the same moment', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const line = lineBelow(story, root, 6)
  const before = [root, gated(story, root, 'mentionRule'), ...line, story.post('bob', 'counted')]
  const edited = story.put('ann', root.collection, { ...root.record, ...mentioning(story, 'bob') }, root.rkey)
  const reply = story.reply('bob', line.at(-1)!)
  await using natural = indexOn(database)
  await apply(natural, [...before, edited, reply])
  await using index = indexOn(otherDatabase)
  await apply(index, before)
  // Counters are written last: what waits for them has judged.
  const counter: [string, string] = ['select from profile_agg where did = $1 for update', reply.did]
  await whileHeld(index, counter, async (waiting) => {
    const judged = applyBatch(index, [reply])
    await waiting(1)
    await applyBatch(index, [edited])
    return [judged]
  })
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

test.for([
  ['six that are gone', 0],
  ['six that are gone, the last of which has answered 1,500 others since', 1_500],
] as const)(
  'a reply below %s, and its late root end as in time, though both are written at the same moment',
  async ([, moves], { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const line = lineBelow(story, root, 6)
    const before = [story.post('bob', 'counted'), ...line]
    const reply = story.reply('bob', line.at(-1)!)
    const moved = Array.from({ length: moves }, (_, n): RecordEvent => {
      const parent = story.post('cat', `never heard of ${n}`)
      const { collection, record } = story.reply('ann', parent)
      return story.put('ann', collection, record, line.at(-1)!.rkey)
    })
    const gone = line.map((post) => story.delete(post))
    await using natural = indexOn(database)
    for (const batch of [[root], before, [reply], moved, gone]) await applyBatch(natural, batch)
    await using index = indexOn(otherDatabase)
    for (const batch of [before, moved, gone]) await applyBatch(index, batch)
    const counter: [string, string] = ['select from profile_agg where did = $1 for update', reply.did]
    await whileHeld(index, counter, async (waiting) => {
      const judged = applyBatch(index, [reply])
      await waiting(1)
      await applyBatch(index, [root])
      return [judged]
    })
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes('"invalidReplyRoot":true'))).toEqual([])
    expect(differences(wanted, await rowsOf(index))).toEqual([])
  },
)

test('a reply that is judged by a late gate ends as the follows say that change at the same moment', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const follow = story.follow('ann', 'bob')
  const root = story.post('ann', 'root')
  const gate = gated(story, root, 'followingRule')
  const ended = story.delete(follow)
  const reply = story.reply('bob', root)
  await using natural = indexOn(database)
  await apply(natural, [follow, root, gate, ended, reply])
  expect((await rowsOf(natural)).post!.filter((row) => row.includes('"violatesThreadGate":true'))).toHaveLength(1)
  await using index = indexOn(otherDatabase)
  await apply(index, [follow, root, reply])
  // Who has judged by follows says so here.
  const entry: [string, ...string[]] = [
    `insert into gated_reply (uri, creator, owner, at) values ($1, $2, $3, '')`,
    uriOf(reply),
    reply.did,
    root.did,
  ]
  await whileHeld(index, entry, async (waiting) => {
    const judged = applyBatch(index, [gate])
    await waiting(1)
    await applyBatch(index, [ended])
    return [judged]
  })
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
})

test.for(['edited', 'deleted'])(
  'a reply below one that is %s while a late root is settled, and has been judged before that one, counts as before',
  async (how, { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    // More than are judged at once: the reply is among the first, what it answers among the last.
    const others = Array.from({ length: 1_000 }, () => story.reply('bob', root))
    const leaves = story.reply('zoe', root)
    const reply = story.reply('ann', leaves)
    const edit = { text: 'of its own' }
    const left = how === 'deleted' ? story.delete(leaves) : story.put('zoe', leaves.collection, edit, leaves.rkey)
    await using natural = indexOn(database)
    await applyBatch(natural, [root, ...others, leaves, reply])
    await applyBatch(natural, [left])
    await using index = { ...indexOn(otherDatabase), room: { base: 2_000, each: 0, own: 0 } }
    await applyBatch(index, [...others, leaves, reply])
    await whileHeld(index, ['select from post where uri = $1 for update', uriOf(leaves)], async (waiting) => {
      const gone = applyBatch(index, [left])
      await waiting(1)
      const settled = applyBatch(index, [root])
      await waiting(2)
      return [gone, settled]
    })
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
  },
)

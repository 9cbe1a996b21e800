/**
 * C5: what another indexer wrote before us, and what its author writes anew with the same content, counts from when it
 * was written until it ended, whatever arrives first.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { uriOf, type CreateEvent, type RecordEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { exportOf } from './testing/exports.ts'
import { wrongCounters } from './testing/recount.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const set = new CollectionSet(collections)
const THREADGATE = 'app.bsky.feed.threadgate'

async function apply(index: Index, events: readonly RecordEvent[]): Promise<void> {
  for (const event of events) await applyBatch(index, [event])
}

/** As if another indexer had written everything: it keeps no revs, and remembers nothing. */
async function disown({ db }: Index): Promise<void> {
  await db.query('update record set rev = null, "fromExport" = null')
  await db.query('delete from gated_reply')
  await db.query('delete from past_fact')
}

async function applyExports(index: Index, until: readonly RecordEvent[], names: readonly string[]): Promise<void> {
  const story = new Story()
  const time = until.at(-1)!.time
  for (const name of names) {
    for (const chunk of exportOf({ until, did: story.did(name), time, random: new Random(1) })) {
      await applyBatch(index, chunk)
    }
  }
}

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes: true })
  return rows
}

/** A thread whose gate lets followers in, among whom is Cat. */
function gatedThread(story: Story): [root: CreateEvent, gate: CreateEvent, follow: CreateEvent] {
  const root = story.post('ann', 'for followers')
  const allow = [{ $type: 'app.bsky.feed.threadgate#followerRule' }]
  const gate = story.put('ann', THREADGATE, { post: uriOf(root), allow }, root.rkey)
  return [root, gate, story.follow('cat', 'ann')]
}

/** The same content, by a later commit. */
function again(story: Story, event: CreateEvent): CreateEvent {
  const name = event.did.slice('did:plc:'.length)
  const { commit, rev, seq, time } = story.put(name, event.collection, event.record, event.rkey)
  return { ...event, commit, rev, seq, time }
}

test.for([
  ['ann', 'cat', 'bob'],
  ['bob', 'ann', 'cat'],
  ['cat', 'bob', 'ann'],
])(
  'replies in a thread that another indexer wrote are let in or kept out as before, when exports come of %s, %s and %s',
  async (names, { database, otherDatabase }) => {
    const story = new Story()
    const [root, gate, follow] = gatedThread(story)
    const events = [root, gate, follow, story.reply('bob', root), story.reply('cat', root)]
    for (const name of names) events.push(story.post(name, 'years later'))
    await using natural = indexOn(database)
    await apply(natural, events)
    await using index = indexOn(otherDatabase)
    await apply(index, events)
    await disown(index)
    await applyExports(index, events, names)
    const wanted = await rowsOf(natural)
    expect(wanted.post!.filter((row) => row.includes('"violatesThreadGate":true'))).toHaveLength(1)
    expect(differences(wanted, await rowsOf(index))).toEqual([])
    expect(await wrongCounters(index.db, set)).toEqual([])
  },
)

test('what another indexer wrote and an export confirmed ends when it is deleted, for what arrives late', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const [root, gate, follow] = gatedThread(story)
  const other = story.post('ann', 'soon gone')
  const first = [root, gate, follow, other, story.post('ann', 'later'), story.post('cat', 'later')]
  const late = [story.reply('bob', root), story.reply('cat', root), story.reply('dan', other)]
  const ends = [follow, gate, other].map((event) => story.delete(event))
  await using natural = indexOn(database)
  await apply(natural, [...first, ...late, ...ends])
  await using index = indexOn(otherDatabase)
  await apply(index, first)
  await disown(index)
  await applyExports(index, first, ['ann', 'cat'])
  await apply(index, [...ends, ...late])
  expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
  expect(await wrongCounters(index.db, set)).toEqual([])
})

test('a gate and a follow that are written anew with the same content were there before, for what arrives late', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const [root, gate, follow] = gatedThread(story)
  const late = [story.reply('bob', root), story.reply('cat', root)]
  const anew = [again(story, gate), again(story, follow)]
  await using natural = indexOn(database)
  await apply(natural, [root, gate, follow, ...late, ...anew])
  await using index = indexOn(otherDatabase)
  await apply(index, [root, gate, follow, ...anew, ...late])
  expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
})

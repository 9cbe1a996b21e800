/** D3: settling that fails halfway, with a part of it committed, is made up for when the batch comes again. */
import { uriOf, type CreateEvent, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

async function apply(index: Index, events: readonly StreamEvent[]): Promise<void> {
  for (const event of events) await applyBatch(index, [event])
}

/** One below the other, so deep that settling goes down in several rounds. */
function repliesBelow(story: Story, parent: CreateEvent): CreateEvent[] {
  const line = [parent]
  for (let depth = 1; depth <= 12; depth++) line.push(story.reply(`bob${depth}`, line.at(-1)!))
  return line.slice(1)
}

/** The disk is full for this post alone. */
async function whileDiskIsFull({ db }: Index, post: CreateEvent, work: () => Promise<void>): Promise<void> {
  await db.query(`
    create function disk_full() returns trigger language plpgsql as $$ begin raise exception 'full' using errcode = '53100'; end $$`)
  await db.query(`
    create trigger disk_full before update on post for each row when (new.uri = '${uriOf(post)}') execute function disk_full()`)
  await work()
  await db.query('drop trigger disk_full on post')
}

interface Told {
  replies: CreateEvent[]
  /** All of it, in the natural order. */
  events: RecordEvent[]
  /** What arrives after all others. */
  last: RecordEvent
}

const LATE: Record<string, (story: Story) => Told> = {
  'a root'(story) {
    const root = story.post('ann', 'root')
    const replies = repliesBelow(story, root)
    return { replies, events: [root, ...replies], last: root }
  },
  'the deletion of a root, before it was answered'(story) {
    const root = story.post('ann', 'root')
    const last = story.delete(root)
    const replies = repliesBelow(story, root)
    return { replies, events: [root, last, ...replies], last }
  },
  'an earlier version of a post, by which it was in the thread'(story) {
    const root = story.post('ann', 'root')
    const last = story.reply('cat', root)
    const replies = repliesBelow(story, last)
    const edited = story.put('cat', last.collection, { text: 'a post of its own' }, last.rkey)
    return { replies, events: [root, last, ...replies, edited], last }
  },
}

test.for(Object.entries(LATE))(
  '%s that arrives late counts down to the last reply, though settling failed halfway',
  async ([, tell], { database, otherDatabase }) => {
    const { replies, events, last } = tell(new Story())
    await using natural = indexOn(database)
    await apply(natural, events)
    await using index = indexOn(otherDatabase)
    const others = events.filter((event) => event !== last)
    await apply(index, others.toReversed())
    await whileDiskIsFull(index, replies[4]!, async () => {
      await expect(applyBatch(index, [last])).rejects.toBeInstanceOf(TransientError)
    })
    await applyBatch(index, [last])
    expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
  },
)

test('a root that arrives late counts down to the last reply, though settling failed halfway and the root was edited before it came again', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'root')
  const replies = repliesBelow(story, root)
  const edited = story.put('ann', root.collection, { text: 'edited' }, root.rkey)
  await using natural = indexOn(database)
  await apply(natural, [root, ...replies, edited])
  await using index = indexOn(otherDatabase)
  await apply(index, replies.toReversed())
  await whileDiskIsFull(index, replies[4]!, async () => {
    await expect(applyBatch(index, [root])).rejects.toBeInstanceOf(TransientError)
  })
  await apply(index, [edited, root])
  expect(differences(await snapshot(natural.db), await snapshot(index.db))).toEqual([])
})

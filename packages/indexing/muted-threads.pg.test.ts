/** C1, C5: who has muted a thread is not told of what is done to their posts in it, whatever comes first. */
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'
import { whileHeld } from './testing/while-held.ts'

async function apply(index: Index, batches: StreamEvent[][]): Promise<void> {
  for (const batch of batches) await applyBatch(index, batch)
}

async function mute({ db }: Index, root: CreateEvent, did: string): Promise<void> {
  await db.query(`insert into thread_mute ("rootUri", "mutedByDid", "createdAt") values ($1, $2, '')`, [
    uriOf(root),
    did,
  ])
}

/** What Bob, who answers in a thread that he has muted, may be told of. */
function inMutedThread() {
  const story = new Story()
  const root = story.post('ann', 'root')
  const reply = story.reply('bob', root)
  const own = story.post('bob', 'another thread')
  const acts = (post: CreateEvent): CreateEvent[] => [
    story.like('cat', post),
    story.repost('cat', post),
    story.quote('cat', post),
    story.reply('cat', post),
  ]
  return { root, reply, about: acts(reply), gone: story.delete(reply), other: [own, ...acts(own)] }
}

test.for(['after', 'in one batch with', 'after, and gone, after'] as const)(
  'C1 who has muted a thread hears nothing of their reply in it, though that comes %s what is done to it',
  async (how, { database, otherDatabase }) => {
    const { root, reply, about, gone, other } = inMutedThread()
    await using natural = indexOn(database)
    await using late = indexOn(otherDatabase)
    for (const index of [natural, late]) await mute(index, root, reply.did)
    const end = how.startsWith('after, and gone') ? [gone] : []
    await apply(natural, [[root], [reply], about, other, end])
    const batches = {
      after: [about, other, [reply]],
      'in one batch with': [[...about, ...other, reply]],
      'after, and gone, after': [about, [gone], other, [reply]],
    }[how]
    await apply(late, [[root], ...batches])
    const wanted = await snapshot(natural.db)
    expect(wanted.notification!.filter((row) => row.includes(`"did":"${reply.did}"`))).toHaveLength(4)
    expect(differences(wanted, await snapshot(late.db))).toEqual([])
  },
)

test.for(['reply', 'like'] as const)(
  'C1, C5 who has muted a thread hears nothing of a like beside which their reply comes: the %s is committed last',
  async (which, { database }) => {
    const { root, reply, about, other } = inMutedThread()
    const like = about[0]!
    const events = { reply: [reply], like: [like] }
    const first = which === 'reply' ? 'like' : 'reply'
    await using index = indexOn(database)
    await mute(index, root, reply.did)
    const counted = { ...like, record: { ...like.record, subject: { uri: uriOf(reply), cid: reply.cid } } }
    await apply(index, [[root, other[0]!], [{ ...counted, did: other[0]!.did.replace('bob', 'eve') }]])
    const locked =
      which === 'like'
        ? { statement: 'select from post_agg where uri = $1 for update', value: uriOf(reply) }
        : { statement: 'select from profile_agg where did = $1 for update', value: reply.did }
    await whileHeld(index, [locked.statement, locked.value], async (waiting) => {
      const last = applyBatch(index, events[which])
      await waiting(1)
      await applyBatch(index, events[first])
      return [last]
    })
    const { rows } = await index.db.query(`select author from notification where did = $1`, [reply.did])
    expect(rows).toEqual([])
  },
)

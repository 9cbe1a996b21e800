/** C1, C5: who has muted a thread is not told of what is done to their posts in it, whatever comes first. */
import { uriOf, type CreateEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
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

/**
 * How Bob's reply gets into a thread that he has muted: first it is nowhere, in another thread, or gone from another.
 */
const WAYS = ['comes', 'is moved there by an edit', 'is moved there, and gone', 'is written anew'] as const
type Way = (typeof WAYS)[number]

interface Beside {
  reply: StreamEvent[]
  like: StreamEvent[]
  /** Who has muted the thread. */
  did: string
  /** Posts whose counters change. */
  counted: Record<'reply' | 'like', string[]>
}

/** Bob's reply, and Cat's like of it. What is counted of both has rows. */
async function besideEachOther(index: Index, way: Way): Promise<Beside> {
  const story = new Story()
  const [root, other] = [story.post('ann', 'root'), story.post('ann', 'another thread')]
  const before = story.reply('bob', other)
  const gone = story.delete(before)
  const reply = story.reply('bob', root, {}, before.rkey)
  const { did } = reply
  await mute(index, root, did)
  if (way !== 'comes') await apply(index, [[other], [before], way === 'is written anew' ? [gone] : []])
  await apply(index, [
    [root, other],
    [story.reply('eve', root), story.like('eve', reply)],
  ])
  return {
    reply: [reply, ...(way === 'is moved there, and gone' ? [story.delete(reply)] : [])],
    like: [story.like('cat', reply)],
    did,
    counted: { reply: [uriOf(root), uriOf(other)], like: [uriOf(reply)] },
  }
}

async function toldOf({ db }: Index, { did }: Beside): Promise<unknown[]> {
  return (await db.query('select author from notification where did = $1', [did])).rows
}

/**
 * The batch with this one looks for muted threads first, and is committed when the other one has ended or waits for it.
 * Counters are written last: who waits for one of these has looked.
 */
async function meet(
  index: Index,
  which: 'reply' | 'like',
  both: Beside,
  applyFirst: (events: StreamEvent[]) => Promise<unknown>,
): Promise<void> {
  const counters = 'select from post_agg where uri = any($1) order by uri for update'
  await whileHeld(index, [counters, both.counted[which]], async (waiting) => {
    const first = applyFirst(both[which])
    await waiting(1)
    const second = applyBatch(index, both[which === 'like' ? 'reply' : 'like'])
    await Promise.race([second, waiting(2)])
    return [first, second]
  })
}

const BESIDE = WAYS.flatMap((way) => (['reply', 'like'] as const).map((which) => [way, which] as const))

test.for(BESIDE)(
  'C1, C5 who has muted a thread hears nothing of a like beside which their reply %s: the %s looks first',
  async ([way, which], { database }) => {
    await using index = indexOn(database)
    const both = await besideEachOther(index, way)
    await meet(index, which, both, (events) => applyBatch(index, events))
    expect(await toldOf(index, both)).toEqual([])
  },
)

/** The process dies when its batch is durable and before that is settled. */
class DyingPool extends DatabasePool {
  died = false

  override session(): Promise<never> {
    this.died = true
    throw new TransientError('died before it settled')
  }
}

test.for(BESIDE)(
  'D3 who has muted a thread hears nothing of a like beside which their reply %s, though the process that brings the %s dies before it settles',
  async ([way, which], { database }) => {
    await using index = indexOn(database)
    const both = await besideEachOther(index, way)
    await using db = new DyingPool({ url: database, schema: 'bsky', size: 1, role: 'dying', byKey: true })
    await meet(index, which, both, (events) =>
      expect(applyBatch({ ...index, db }, events)).rejects.toThrow('died before it settled'),
    )
    expect(db.died).toBe(true)
    await applyBatch(index, both[which])
    expect(await toldOf(index, both)).toEqual([])
  },
)

/**
 * C5, D3: what others write while a walk down a thread is handed over, between the moment that a post is found and the
 * one that it is named to whoever goes on, is gone on from as well.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import type { CreateEvent, RecordEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { claimLater, settleClaim } from './settle-later.ts'
import { EventfulPool, type Happening } from './testing/eventful-pool.ts'
import { indexOn } from './testing/index-on.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const NO_ROOM = { base: 0, each: 0, own: 0 }
/** One round, which judges the first four levels and finds four more. */
const LIMITS = { seen: 1 }

/** Rows that do not tell the way they came. */
async function rowsOf({ db }: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(db, { withoutTimes: true })
  return rows
}

/** What becomes of one of the posts. */
const HOW: Record<string, (story: Story, post: CreateEvent) => RecordEvent[]> = {
  goes: (story, post) => [story.delete(post)],
  leaves: (story, post) => [story.put('zoe', post.collection, { text: 'of its own' }, post.rkey)],
  moves: (story, post) => {
    const elsewhere = story.post('eve', 'another root')
    return [elsewhere, story.put('zoe', post.collection, story.reply('zoe', elsewhere).record, post.rkey)]
  },
  returns: (story, post) => [story.delete(post), story.put('zoe', post.collection, post.record, post.rkey)],
}

/**
 * Levels below the root of those of which it becomes: the last that is judged, one that is found below it, one that
 * hangs from another that is found, the last that is found, and all that are found.
 */
const WHERE = [[4], [5], [7], [8], [5, 6, 7, 8]]

interface Thread {
  root: CreateEvent
  replies: CreateEvent[]
  /** What others write in the end. */
  last: RecordEvent[]
}

/** Each reply below the one before; and another beside it, unless all become. */
function threadsOf(story: Story): Thread[] {
  return Object.values(HOW).flatMap((become) =>
    WHERE.map((levels) => {
      const root = story.post('ann', 'root')
      const line = [root]
      const others: CreateEvent[] = []
      while (line.length <= 12) {
        if (levels.length === 1) others.push(story.reply('bob', line.at(-1)!))
        line.push(story.reply('zoe', line.at(-1)!))
      }
      return {
        root,
        replies: [...line.slice(1), ...others],
        last: levels.flatMap((level) => become(story, line[level]!)),
      }
    }),
  )
}

const MOMENTS: Record<string, Pick<Happening, 'when' | 'nth'>> = {
  'before it is asked what hangs from what': { when: 'before', nth: 1 },
  'when it is known from what those hang that were found': { when: 'after', nth: 1 },
  'when it is known which of these stand above others': { when: 'after', nth: 2 },
}

test.for(Object.entries(MOMENTS))(
  'a post that goes, leaves its thread, moves to another or is written anew %s is gone on from like the others',
  async ([, moment], { database, otherDatabase }) => {
    const threads = threadsOf(new Story())
    await using natural = indexOn(database)
    for (const { root, replies, last } of threads) {
      await applyBatch(natural, [root, ...replies])
      for (const event of last) await applyBatch(natural, [event])
    }
    await using index = indexOn(otherDatabase)
    await using db = new EventfulPool({ url: otherDatabase, size: 4 })
    const set = new CollectionSet(collections)
    for (const { root, replies, last } of threads) {
      await applyBatch(index, replies)
      await applyBatch({ db, collections: set, actors: new KnownActors(), room: NO_ROOM }, [root])
      const act = async (): Promise<void> => {
        for (const event of last) await applyBatch(index, [event])
      }
      db.next = { statement: 'above-posts', ...moment, act }
      const [claim] = await claimLater(db, { now: '9', until: '8', limit: 1, queue: 'first' })
      await settleClaim(db, set, claim!, { limits: LIMITS })
      await settleAll(index)
    }
    expect(db.happened).toBe(threads.length)
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
  },
)

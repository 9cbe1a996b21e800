/** C1: who is told that a verification was made and that it ended, whatever comes first, and with what in one batch. */
import type { CreateEvent, StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { differences, snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

async function apply(index: Index, batches: StreamEvent[][]): Promise<void> {
  for (const batch of batches) await applyBatch(index, batch)
}

test('C1 a verification that is deleted, written anew and deleted again ends alike, however its events are split into batches', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  /** A life of one record for each split of six events into batches: a cut or none after each but the last. */
  const lives = Array.from({ length: 32 }, (_, cuts) => {
    const verify = (subject: string, rkey?: string): CreateEvent =>
      story.put(
        'ann',
        'app.bsky.graph.verification',
        { subject: story.did(`${subject}${cuts}x`), handle: 'a.test', displayName: 'A' },
        rkey,
      )
    const first = verify('bob')
    const events = [first, story.delete(first), verify('cat', first.rkey), story.delete(first)]
    return { cuts, events: [...events, verify('dan', first.rkey), story.delete(first)] }
  })
  const batches = Array.from({ length: 6 }, (_, nth) =>
    lives.flatMap(({ cuts, events }) =>
      events.filter((_, i) => [0, 1, 2, 3, 4].filter((at) => at < i && (cuts >> at) & 1).length === nth),
    ),
  )
  await using natural = indexOn(database)
  await using batched = indexOn(otherDatabase)
  await apply(
    natural,
    Array.from({ length: 6 }, (_, i) => lives.map(({ events }) => events[i]!)),
  )
  await apply(batched, batches)
  expect(differences(await snapshot(natural.db), await snapshot(batched.db))).toEqual([])
})

/** Every order of so many things. */
function orders(count: number): number[][] {
  if (count === 0) return [[]]
  return orders(count - 1).flatMap((order) =>
    Array.from({ length: count }, (_, at) => order.toSpliced(at, 0, count - 1)),
  )
}

/** Whom its versions are of, one after the other; x: it is deleted. */
const LIVES = ['bob cat x', 'bob cat dan x', 'bob x cat x', 'bob x bob x', 'bob cat x dan']

test('C1 the last version of a verification says who is told, in every order of its versions and its deletions', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const lives = LIVES.flatMap((life) => orders(life.split(' ').length).map((order) => ({ life, order }))).map(
    ({ life, order }, n) => {
      let made: CreateEvent | undefined
      const events = life.split(' ').map((name) => {
        if (name === 'x') return story.delete(made!)
        const said = { subject: story.did(`${name}${n}x`), handle: 'a.test', displayName: 'A', createdAt: story.now }
        return (made = story.put('ann', 'app.bsky.graph.verification', said, made?.rkey))
      })
      return { events, order }
    },
  )
  await using natural = indexOn(database)
  await using late = indexOn(otherDatabase)
  for (let at = 0; at < 4; at++) {
    await applyBatch(
      natural,
      lives.flatMap(({ events }) => events[at] ?? []),
    )
    await applyBatch(
      late,
      lives.flatMap(({ events, order }) => events[order[at] ?? 9] ?? []),
    )
  }
  expect(differences(await snapshot(natural.db), await snapshot(late.db))).toEqual([])
})

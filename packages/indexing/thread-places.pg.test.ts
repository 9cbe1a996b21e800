/**
 * C3: a reply's place in its author's thread is that of its newest version, and ends with it, whatever arrives first
 * and in whichever batch.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type RecordEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { Story } from './testing/story.ts'

/** `second` names another parent than `first`, in the same thread. */
type Step = 'first' | 'second' | 'gone'

test.for<[what: string, life: Step[]]>([
  ['was edited', ['first', 'second']],
  ['was edited and deleted', ['first', 'second', 'gone']],
  ['was deleted and written anew', ['first', 'gone', 'second']],
  ['was deleted, written anew and deleted again', ['first', 'gone', 'second', 'gone']],
])('a reply that %s', async ([, life], { database }) => {
  await using db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  const story = new Story()
  const wrong: string[] = []
  let accounts = 0
  for (const order of orders([...life.keys()])) {
    for (const batches of splits(order)) {
      const name = `x${++accounts}x`
      const root = story.post(name, 'root')
      const above = story.reply(name, root)
      const first = story.reply(name, root)
      const events = life.map((step): RecordEvent => {
        if (step === 'first') return first
        if (step === 'gone') return story.delete(first)
        return story.reply(name, above, {}, first.rkey)
      })
      for (const batch of batches) {
        await applyBatch(
          index,
          batch.map((i) => events[i]!),
        )
      }
      const { rows } = await db.query<{ place: string }>(
        `select concat_ws(' until ', "parentUri", "deletedAt") as place from op_thread_reply where uri = $1`,
        [uriOf(first)],
      )
      const last = events.at(-1)!
      const place = last.type === 'delete' ? `${uriOf(above)} until ${last.time}` : uriOf(above)
      if (rows.length !== 1 || rows[0]!.place !== place)
        wrong.push(`${JSON.stringify(batches)}: ${JSON.stringify(rows)}`)
    }
  }
  expect(accounts).toBeGreaterThanOrEqual(4)
  expect(wrong).toEqual([])
})

function orders<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]]
  return items.flatMap((item, i) => orders(items.toSpliced(i, 1)).map((rest) => [item, ...rest]))
}

/** Every way to cut it into batches. */
function splits<T>(items: readonly T[]): T[][][] {
  if (items.length === 0) return [[]]
  return items.flatMap((_, i) => splits(items.slice(i + 1)).map((rest) => [items.slice(0, i + 1), ...rest]))
}

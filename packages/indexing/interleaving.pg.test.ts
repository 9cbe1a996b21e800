/**
 * C2, C3, C6: live events and exports in any interleaving end in the rows of the natural order; counters and notifications equal a recount; nothing comes
 * back to life. Longer: SEEDS=1,2,3 EVENTS=2000.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { expectedNotifications } from './testing/expected-notifications.ts'
import { exportOf, repositoryOf } from './testing/exports.ts'
import { history } from './testing/history.ts'
import { wrongCounters } from './testing/recount.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { Story } from './testing/story.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 300)

function indexOn(url: string): Index & AsyncDisposable {
  const db = new DatabasePool({ url, schema: 'bsky', size: 4, role: 'test' })
  return { db, collections: set, actors: new KnownActors(), [Symbol.asyncDispose]: () => db.close() }
}

/** In batches of up to `most`, by three at once. */
async function applyAll(index: Index, delivered: readonly StreamEvent[], random: Random, most = 60): Promise<void> {
  const lanes = [0, 1, 2].map((lane) => delivered.filter((_, i) => i % 3 === lane))
  await Promise.all(
    lanes.map(async (events) => {
      for (let at = 0; at < events.length;) {
        const size = 1 + random.below(most)
        await applyBatch(index, events.slice(at, at + size))
        at += size
      }
    }),
  )
}

/** Rows that do not tell the way they came. */
async function rowsOf(index: Index): Promise<Snapshot> {
  const { actor_sync: _, ...rows } = await snapshot(index.db, { withoutTimes: true })
  return rows
}

/** An export of each account, at some point of the history. */
function exportsOf(events: readonly RecordEvent[], random: Random, from = 0.3): StreamEvent[] {
  const dids = [...new Set(events.map(({ did }) => did))]
  return dids.flatMap((did) => {
    const until = events.slice(0, Math.ceil(events.length * (from + random.next() * (1 - from))))
    const time = new Date(Date.parse(until.at(-1)!.time) + 1).toISOString()
    return exportOf({ until, did, time, random }).flat()
  })
}

const lastRev = (events: readonly RecordEvent[], did: string): string =>
  events.findLast((event) => event.did === did)!.rev

describe.each(SEEDS)('seed %i', (seed) => {
  const random = new Random(seed * 7_919)
  const told = history({ seed: seed + 500, events: EVENTS })

  test('live events and exports, interleaved, redelivered, by three at once, end as the natural order', async ({
    database,
    otherDatabase,
  }) => {
    // An export does not tell when a post was edited, so a reply that is edited in a gated thread is judged by what is known: it may differ.
    const events = told.filter(({ type, collection }) => type !== 'update' || collection !== 'app.bsky.feed.post')
    await using natural = indexOn(database)
    for (let at = 0; at < events.length; at += 20) await applyBatch(natural, events.slice(at, at + 20))
    await using index = indexOn(otherDatabase)
    const exports = exportsOf(events, random)
    expect(exports.some((event) => event.type === 'repo' && event.keys!.length > 0)).toBe(true)
    const delivered = random.shuffled([
      ...events,
      ...exports,
      ...events.filter(() => random.chance(0.2)),
      ...exports.filter(() => random.chance(0.2)),
    ])
    await applyAll(index, delivered, random)
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
    const { rows } = await index.db.query<{ did: string; rev: string }>('select did, "repoRev" as rev from actor_sync')
    for (const { did, rev } of rows) expect(rev).toBe(lastRev(events, did))
    expect(await wrongCounters(index.db, set)).toEqual([])
  })

  test('C6: whatever was missed, after an export of its head the index holds what the repository holds', async ({
    database,
  }) => {
    await using index = indexOn(database)
    const heard = told.filter(() => random.chance(0.5))
    const exports = exportsOf(told, random, 1)
    await applyAll(index, random.shuffled(heard.slice(0, heard.length / 2)), random)
    await applyAll(index, random.shuffled([...heard.slice(heard.length / 2), ...exports]), random)
    const wanted = new Set(told.map(({ did }) => did))
    const held = [...wanted].flatMap((did) =>
      [...repositoryOf(told, did)].map(([path, { cid }]) => `at://${did}/${path} ${cid}`),
    )
    const refused = await refusedBy(held, told)
    const { rows } = await index.db.query<{ line: string }>(`select uri || ' ' || cid as line from record`)
    expect(rows.map(({ line }) => line).sort()).toEqual(held.filter((line) => !refused.has(line)).sort())
    expect(await wrongCounters(index.db, set)).toEqual([])
    expect(await orphans(index)).toEqual([])
  })

  test('C2, C3: counters and notifications equal a recount, and nothing that was deleted is there', async ({
    database,
  }) => {
    const events = told.filter(({ collection }) => !collection.endsWith('gate'))
    await using index = indexOn(database)
    await applyAll(index, random.shuffled([...events, ...events.filter(() => random.chance(0.3))]), random)
    expect(await wrongCounters(index.db, set)).toEqual([])
    expect(await orphans(index)).toEqual([])
    const { rows } = await index.db.query<{ line: string; reason: string; lives: boolean }>(`
      select notification.did || ' ' || reason || ' ' || "recordUri" as line, reason, record.uri is not null as lives
      from notification left join record on record.uri = "recordUri" order by 1`)
    const living = rows.filter(({ lives }) => lives).map(({ line }) => line)
    expect(living.sort()).toEqual(expectedNotifications(events))
    const ofTheDead = rows.filter(({ lives, reason }) => !lives && !/^(un)?verified$/.test(reason))
    expect(ofTheDead).toEqual([])
    const newest = Map.groupBy(events, uriOf)
    const deleted = [...newest].filter(([, versions]) => versions.at(-1)!.type === 'delete').map(([uri]) => uri)
    expect(deleted.length).toBeGreaterThan(10)
    const { rows: risen } = await index.db.query('select uri from record where uri = any($1::text[])', [deleted])
    expect(risen).toEqual([])
  })
})

/** Rows of collection tables whose record does not live. */
async function orphans({ db }: Index): Promise<string[]> {
  const tables = new Map(
    collections
      .flatMap(({ tables: own }) => own)
      .filter(({ outlives, name }) => !outlives && name !== 'gated_reply')
      .map((t) => [t.name, t]),
  )
  const found = await Promise.all(
    [...tables.values()].map(async ({ name, owner }) => {
      const { rows } = await db.query<{ line: string }>(
        `select '${name} ' || "${owner}" as line from "${name}" where "${owner}" not in (select uri from record)`,
      )
      return rows.map(({ line }) => line)
    }),
  )
  return found.flat()
}

/** Records of the history that no index holds, because their plugin refuses them. */
async function refusedBy(held: readonly string[], events: readonly RecordEvent[]): Promise<Set<string>> {
  const { prepare } = await import('./prepare.ts')
  const refused = new Set(prepare(set, events).refused.map(({ uri }) => uri))
  return new Set(held.filter((line) => refused.has(line.slice(0, line.indexOf(' ')))))
}

test('a thread that arrives from its end is judged, counted and told as if it had come in order', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const thread = [story.post('ann', 'root')]
  for (const name of ['bob', 'cat', 'dan', 'eve', 'fay', 'gil']) thread.push(story.reply(name, thread.at(-1)!))
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(thread[0]!), allow: [] }, thread[0]!.rkey)
  thread.push(gate, story.reply('hal', thread[1]!))
  await using natural = indexOn(database)
  for (const event of thread) await applyBatch(natural, [event])
  await using reversed = indexOn(otherDatabase)
  for (const event of thread.toReversed()) await applyBatch(reversed, [event])
  const wanted = await snapshot(natural.db)
  expect(differences(wanted, await snapshot(reversed.db))).toEqual([])
  expect(wanted.post!.filter((row) => row.includes('"violatesThreadGate":true'))).toHaveLength(1)
  expect(await wrongCounters(reversed.db, set)).toEqual([])
})

test('what came and went before an export ends when it was deleted, though both arrive after the export', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const gone = story.post('ann', 'soon gone')
  const events: RecordEvent[] = [gone, story.delete(gone)]
  const reply = story.reply('bob', gone)
  events.push(reply, story.post('ann', 'still here'))
  const [resync] = exportOf({ until: events, did: gone.did, time: story.now, random: new Random(1), chunk: 1 })
  await using natural = indexOn(database)
  for (const event of events) await applyBatch(natural, [event])
  await using late = indexOn(otherDatabase)
  for (const batch of [resync!, [gone], [events[1]!], [reply], [events[3]!]]) await applyBatch(late, batch)
  expect(differences(await rowsOf(natural), await rowsOf(late))).toEqual([])
  expect((await rowsOf(natural)).notification).toEqual([])
})

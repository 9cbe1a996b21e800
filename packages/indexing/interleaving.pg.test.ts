/**
 * C2, C3, C6: live events and exports in any interleaving end in the rows of the natural order; counters and
 * notifications equal a recount; nothing comes back to life. Longer: SEEDS=1,2,3 EVENTS=2000.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { uriOf, type CreateEvent, type RecordEvent, type StreamEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { ROOM } from './settle.ts'
import { indexOn } from './testing/index-on.ts'
import { expectedNotifications } from './testing/expected-notifications.ts'
import { exportOf, firstVersions, repositoryOf } from './testing/exports.ts'
import { history } from './testing/history.ts'
import { wrongCounters } from './testing/recount.ts'
import { settleAll } from './testing/settle-all.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { ref, Story } from './testing/story.ts'
import { whileHeld } from './testing/while-held.ts'

const set = new CollectionSet(collections)
const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 300)

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

  test.for([
    { settled: 'at once', room: ROOM },
    { settled: 'later', room: { base: 0, each: 0, own: 0 } },
  ])(
    'live events and exports, interleaved, redelivered, by three at once, settled $settled, end as the natural order',
    async ({ room }, { database, otherDatabase }) => {
      const events = firstVersions(told)
      await using natural = indexOn(database)
      for (let at = 0; at < events.length; at += 20) await applyBatch(natural, events.slice(at, at + 20))
      await using index = { ...indexOn(otherDatabase), room }
      const exports = exportsOf(events, random)
      expect(exports.some((event) => event.type === 'repo' && event.keys!.length > 0)).toBe(true)
      const delivered = random.shuffled([
        ...events,
        ...exports,
        ...events.filter(() => random.chance(0.2)),
        ...exports.filter(() => random.chance(0.2)),
      ])
      await applyAll(index, delivered, random)
      expect((await settleAll(index)) > 0).toBe(room !== ROOM)
      expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
      const { rows } = await index.db.query<{ did: string; rev: string }>(
        'select did, "repoRev" as rev from actor_sync',
      )
      for (const { did, rev } of rows) expect(rev).toBe(lastRev(events, did))
      expect(await wrongCounters(index.db, set)).toEqual([])
    },
  )

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

/** The same record once more, by a later commit. */
function anew(story: Story, event: CreateEvent, name: string): CreateEvent {
  const { commit, rev, seq, time } = story.put(name, event.collection, event.record, event.rkey)
  return { ...event, commit, rev, seq, time }
}

test.for([
  'export deletion creation',
  'export creation deletion',
  'deletion export creation',
  'creation deletion export',
])(
  'C6: what was deleted and written anew before an export, with the same content, is there: %s',
  async (order, { database, otherDatabase }) => {
    const story = new Story()
    const post = story.post('ann', 'hello')
    const like = story.like('bob', post)
    const gone = story.delete(like)
    const creation = anew(story, like, 'bob')
    const events: RecordEvent[] = [post, like, gone, creation, story.post('bob', 'later')]
    const [exported] = exportOf({ until: events, did: like.did, time: story.now, random: new Random(1) })
    await using natural = indexOn(database)
    for (const event of events) await applyBatch(natural, [event])
    await using index = indexOn(otherDatabase)
    const batches = { export: exported!, deletion: [gone], creation: [creation] }
    for (const batch of [[post], [like], ...order.split(' ').map((name) => batches[name as keyof typeof batches])]) {
      await applyBatch(index, batch)
    }
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
    expect(await wrongCounters(index.db, set)).toEqual([])
    // And it can be deleted.
    const end = story.delete(like)
    for (const each of [natural, index]) await applyBatch(each, [end])
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
  },
)

test.for(['gone for good', 'written anew'])(
  'C5: a deletion between two parts of an export counts from when it was made, for what is %s',
  async (what, { database, otherDatabase }) => {
    const story = new Story()
    const root = story.post('ann', 'root')
    const post = story.post('ann', 'soon gone')
    const rules = { post: uriOf(root), allow: [] }
    const gate = story.put('ann', 'app.bsky.feed.threadgate', rules, root.rkey)
    const first: RecordEvent[] = [root, post, gate]
    const ends = [story.delete(post), story.delete(gate)]
    const between = [story.reply('bob', root), story.reply('bob', post)]
    const last: RecordEvent[] = [story.follow('ann', 'bob')]
    if (what === 'written anew') last.unshift(story.put('ann', 'app.bsky.feed.threadgate', rules, root.rkey))
    const events = [...first, ...ends, ...between, ...last]
    const chunks = exportOf({ until: events, did: root.did, time: story.now, random: new Random(1), chunk: 1 })
    await using natural = indexOn(database)
    for (const event of events) await applyBatch(natural, [event])
    await using index = indexOn(otherDatabase)
    const late = [...ends, ...last].map((event) => [event])
    for (const batch of [first, between, chunks.pop()!, ...late, ...chunks]) await applyBatch(index, batch)
    expect(differences(await rowsOf(natural), await rowsOf(index))).toEqual([])
    expect(await wrongCounters(index.db, set)).toEqual([])
  },
)

test('C5: a gate is asked of what an export brought with keys that tell no time, whichever came first', async ({
  database,
  otherDatabase,
}) => {
  const story = new Story()
  const root = story.post('ann', 'gated')
  const gates = [
    story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: [] }, root.rkey),
    story.put(
      'ann',
      'app.bsky.feed.postgate',
      { post: uriOf(root), embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] },
      root.rkey,
    ),
  ]
  const embed = { $type: 'app.bsky.embed.record', record: ref(root) }
  // As long as a TID, and before all of them in their order.
  const answers = [
    story.reply('bob', root, {}, '1700000000000'),
    story.put('bob', 'app.bsky.feed.post', { text: 'a quote', embed }, '1700000000001'),
  ]
  const [exported] = exportOf({ until: answers, did: story.did('bob'), time: story.now, random: new Random(1) })
  await using index = indexOn(database)
  for (const batch of [[root], gates, exported!]) await applyBatch(index, batch)
  await using late = indexOn(otherDatabase)
  for (const batch of [[root], exported!, gates]) await applyBatch(late, batch)
  const wanted = await rowsOf(index)
  expect(wanted.post!.filter((row) => /"violates\w+":true/.test(row))).toHaveLength(2)
  expect(differences(wanted, await rowsOf(late))).toEqual([])
})

test.for([
  ['put on', 'ann'],
  ['put on', 'eve'],
  ['taken off', 'ann'],
  ['taken off', 'eve'],
] as const)(
  'a reply that is judged while its author is %s a list that the gate names ends as the list says, in the gate of ann with the list of %s',
  async ([what, owner], { database }) => {
    const story = new Story()
    const root = story.post('ann', 'gated')
    const list = `at://${story.did(owner)}/app.bsky.graph.list/friends`
    const allow = [{ $type: 'app.bsky.feed.threadgate#listRule', list }]
    const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow }, root.rkey)
    const item = story.put(owner, 'app.bsky.graph.listitem', { list, subject: story.did('bob') })
    const earlier = story.post('bob', 'counted')
    const change = what === 'put on' ? item : story.delete(item)
    const reply = story.reply('bob', root)
    await using index = indexOn(database)
    await applyBatch(index, [root, gate, earlier, ...(change === item ? [] : [item])])

    // Counters are written last: what waits for them has judged.
    await whileHeld(index, ['select from profile_agg where did = $1 for update', reply.did], async (waiting) => {
      const judged = applyBatch(index, [reply])
      await waiting(1)
      await applyBatch(index, [change])
      return [judged]
    })
    const { rows } = await index.db.query(
      `select coalesce("violatesThreadGate", false) as violates from post where uri = $1`,
      [uriOf(reply)],
    )
    expect(rows).toEqual([{ violates: what === 'taken off' }])
  },
)

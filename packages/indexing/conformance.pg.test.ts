/**
 * Every plugin in the list through the same behaviours, with records made from its lexicon. A new collection is covered
 * by being listed.
 *
 * All collections share a database per behaviour, each with its own author; a failure names the collection.
 */
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Collection } from '@sluice/collections/define.ts'
import type { Entry } from '@sluice/collections/record.ts'
import forumPost from '@sluice/collections/space.atbb/post.ts'
import { SampleMaker, type Place } from '@sluice/collections/testing/sample-records.ts'
import { migrate } from '@sluice/database/migrate.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { uriOf, type CreateEvent, type DeleteEvent, type JsonRecord } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { makeEntry } from './entry.ts'
import { KnownActors } from './own.ts'
import { expected, footprint } from './testing/footprint.ts'
import { wrongCounters } from './testing/recount.ts'

const plugins = [...collections, forumPost as Collection]
const set = new CollectionSet(plugins)

const MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000
const tid = (n: number): string => tidFromMicros(MICROS + n * 1_000_000, 3)
const timeOf = (n: number): string => new Date(MICROS / 1000 + n * 1_000).toISOString()

const samples = new SampleMaker(set, (plugin, place, record) => entryOf(created(plugin, place, record, 1)))

function created({ nsid }: Collection, { did, rkey }: Place, record: JsonRecord, at: number): CreateEvent {
  const cid = cidOfText(JSON.stringify(record))
  const commit = { seq: at, time: timeOf(at), did, commit: cidOfText(`${did} ${at}`), rev: tid(at) }
  return { type: 'create', ...commit, collection: nsid, rkey, cid, record }
}

const cidOfText = (text: string): string => formatCid(cidOf(Buffer.from(text)))

function deleted(event: CreateEvent, at: number): DeleteEvent {
  const { cid: _cid, record: _record, ...path } = event
  return { ...path, type: 'delete', seq: at, time: timeOf(at), rev: tid(at) }
}

function entryOf(event: CreateEvent): Entry {
  const json = JSON.stringify(event.record)
  return makeEntry({ ...event, uri: uriOf(event), json, indexedAt: event.time, live: true })
}

interface Case {
  plugin: Collection
  place: Place
  record: JsonRecord
}

/** One author and one valid record for each collection. */
const cases: Case[] = plugins.map((plugin, i) => {
  const letters = 'abcdefghijklmnopqrstuvwxyz'
  const number = letters[Math.floor(i / letters.length)]! + letters[i % letters.length]!
  const did = (who: string): string => `did:plc:${who}${number}${'2'.repeat(24 - who.length - number.length)}`
  const place = { did: did('author'), other: did('other'), rkey: samples.fixedKey(plugin) ?? tid(i) }
  return { plugin, place, record: samples.valid(plugin, place, 'first') }
})

class Bench implements AsyncDisposable {
  readonly db: DatabasePool
  readonly index: Index

  private constructor(url: string) {
    this.db = new DatabasePool({ url, schema: 'bsky', size: 4, role: 'test' })
    this.index = { db: this.db, collections: set, actors: new KnownActors() }
  }

  static async on(url: string): Promise<Bench> {
    await migrate(
      url,
      'bsky',
      plugins.flatMap(({ migrations }) => migrations),
    )
    return new Bench(url)
  }

  apply(events: readonly (CreateEvent | DeleteEvent)[]) {
    return applyBatch(this.index, events)
  }

  /** The record stands as its plugin says. Notifications of posts depend on others: they are judged elsewhere. */
  async expectIndexed(plugin: Collection, event: CreateEvent): Promise<void> {
    const wanted = expected(plugin, entryOf(event), JSON.stringify(event.record))
    const found = await footprint(this.db, plugin, uriOf(event))
    if (plugin.derive) wanted.notifications = found.notifications
    expect.soft(found, plugin.nsid).toEqual(wanted)
  }

  /** Nothing of it is left but what outlives it: a tombstone, and notifications of its deletion. */
  async expectGone(plugin: Collection, event: CreateEvent): Promise<void> {
    const { notifications, ...found } = await footprint(this.db, plugin, uriOf(event))
    expect.soft(found, plugin.nsid).toEqual({ rows: {}, hasTombstone: true })
    const entry = entryOf(event)
    const told = plugin.deletionNotifications
      ? [...plugin.notifications(entry), ...plugin.deletionNotifications(entry)]
      : []
    expect
      .soft(notifications, plugin.nsid)
      .toEqual(told.map(({ did, reason, reasonSubject }) => `${did} ${reason} ${reasonSubject}`).sort())
  }

  async expectCountersRight(): Promise<void> {
    expect(await wrongCounters(this.db, set)).toEqual([])
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.db.close()
  }
}

test('the samples say something: every plugin with tables makes rows of its own', () => {
  for (const { plugin, place, record } of cases) {
    const rows = plugin.rows(entryOf(created(plugin, place, record, 1)))
    if (plugin.tables.length > 0) expect.soft(rows[0]?.table, plugin.nsid).toBe(plugin.tables[0])
    else expect.soft(rows, plugin.nsid).toEqual([])
  }
})

describe('every collection', () => {
  // Rows are copied in binary, which PostgreSQL does not convert: four letters would pass for an integer.
  test('columns: each has the type that its plugin declares', async ({ database }) => {
    await using bench = await Bench.on(database)
    const TYPES = { text: ['varchar', 'text'], boolean: ['bool'], jsonb: ['jsonb'] }
    for (const { name, columns } of new Set(plugins.flatMap(({ tables }) => tables))) {
      const { rows } = await bench.db.query<{ column: string; type: string }>(
        `select attname::text as column, typname::text as type from pg_attribute join pg_type on pg_type.oid = atttypid
         where attrelid = $1::regclass and attname = any($2::text[])`,
        [`"${name}"`, Object.keys(columns)],
      )
      const types = new Map(rows.map(({ column, type }) => [column, type]))
      for (const [column, declared] of Object.entries(columns)) {
        const fitting = TYPES[declared.replace('?', '') as keyof typeof TYPES]
        expect.soft(fitting, `${name}.${column}`).toContain(types.get(column))
      }
    }
  })

  test('columns: a number becomes text, as it would in SQL, and is no four bytes of one', async ({ database }) => {
    await using bench = await Bench.on(database)
    const { plugin, place, record } = cases.find((one) => one.plugin.nsid === forumPost.nsid)!
    // As a plugin whose type parameter promises a string where its lexicon has an integer. The bytes spell ABCD.
    const rows = (entry: Entry) =>
      plugin.rows(entry).map((row) => ({ ...row, values: { ...row.values, text: 0x41_42_43_44 } }))
    const mistaken = { ...bench.index, collections: new CollectionSet([{ ...plugin, rows }]) }
    await applyBatch(mistaken, [created(plugin, place, record, 1)])
    expect((await bench.db.query('select text from atbb_post')).rows).toEqual([{ text: String(0x41_42_43_44) }])
  })

  test('valid: stored as it is, with the rows, counters and notifications that its plugin declares', async ({
    database,
  }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) => created(plugin, place, record, 1))
    expect(await bench.apply(events)).toMatchObject({ inserted: cases.length, refused: [] })
    for (const [i, { plugin }] of cases.entries()) await bench.expectIndexed(plugin, events[i]!)
    await bench.expectCountersRight()
  })

  test('minimal: what may be left out may be left out', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) =>
      created(plugin, place, samples.minimal(plugin, place, record), 1),
    )
    expect(events.some(({ record }, i) => Object.keys(record).length < Object.keys(cases[i]!.record).length)).toBe(true)
    expect(await bench.apply(events)).toMatchObject({ inserted: cases.length, refused: [] })
    for (const [i, { plugin }] of cases.entries()) await bench.expectIndexed(plugin, events[i]!)
  })

  test('invalid: refused by name, and no sibling with it; an earlier valid version stays', async ({ database }) => {
    await using bench = await Bench.on(database)
    for (const { plugin, place, record } of cases) {
      const good = created(plugin, place, record, 1)
      const faulty = samples.invalid(plugin, record)
      expect.soft(faulty.length, plugin.nsid).toBeGreaterThan(0)
      const bad = faulty.map((version, i): CreateEvent => ({
        ...good,
        rev: tid(i + 2),
        time: timeOf(i + 2),
        record: version.record,
      }))
      const { inserted, refused } = await bench.apply([...bad.slice(0, 3), good, ...bad.slice(3)])
      expect.soft([inserted, refused.length], plugin.nsid).toEqual([1, bad.length])
      expect.soft(new Set(refused.map(({ reason }) => reason)), plugin.nsid).toEqual(new Set(['invalid-record']))
      await bench.expectIndexed(plugin, good)
    }
  })

  test('huge: a record of nearly 1 MB is stored whole', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) =>
      created(plugin, place, { ...record, huge: 'ö'.repeat(480_000) }, 1),
    )
    expect(await bench.apply(events)).toMatchObject({ inserted: cases.length, refused: [] })
    for (const [i, { plugin }] of cases.entries()) await bench.expectIndexed(plugin, events[i]!)
  })

  test('huge: a record with URIs as long as allowed is refused alone, whatever index they would be in', async ({
    database,
  }) => {
    await using bench = await Bench.on(database)
    let tried = 0
    const profile = cases.find((one) => one.plugin.nsid === 'app.bsky.actor.profile')
    for (const { plugin, place, record } of cases) {
      const long = samples.withLongUris(plugin, place, record)
      if (!long) continue
      tried++
      const event = created(plugin, place, long, 1)
      const sibling = created(profile!.plugin, { ...profile!.place, did: place.other }, profile!.record, 1)
      const { refused } = await bench.apply([event, sibling])
      expect.soft(refused, plugin.nsid).toMatchObject([{ uri: uriOf(event), reason: 'invalid-record' }])
      await bench.expectIndexed(profile!.plugin, sibling)
    }
    expect(tried).toBeGreaterThan(5)
    await bench.expectCountersRight()
  })

  test('NUL: the record keeps it, its columns lose it', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) =>
      created(plugin, place, samples.withNul(plugin, place, record), 1),
    )
    expect(events.filter(({ record }) => JSON.stringify(record).includes('\\u0000')).length).toBeGreaterThan(5)
    expect(await bench.apply(events)).toMatchObject({ inserted: cases.length, refused: [] })
    for (const [i, { plugin, place, record }] of cases.entries()) {
      const event = events[i]!
      const clean = { ...entryOf(created(plugin, place, record, 1)), cid: event.cid }
      const { rows, json } = await footprint(bench.db, plugin, uriOf(event))
      const { rows: wanted } = expected(plugin, clean, '')
      expect.soft([rows, json], plugin.nsid).toEqual([wanted, JSON.stringify(event.record)])
    }
  })

  test('replay: the same again, alone or with everything, changes nothing', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) => created(plugin, place, record, 1))
    await bench.apply(events)
    expect(await bench.apply([...events, ...events])).toMatchObject({ inserted: 0, replaced: 0, removed: 0 })
    for (const [i, { plugin }] of cases.entries()) {
      await bench.apply([events[i]!])
      await bench.expectIndexed(plugin, events[i]!)
    }
    await bench.expectCountersRight()
  })

  test('update: the newer version stands, whichever comes first, and nothing of the older', async ({ database }) => {
    await using bench = await Bench.on(database)
    const older = cases.map(({ plugin, place, record }) => created(plugin, place, record, 1))
    const newer = cases.map(({ plugin, place }): CreateEvent =>
      created(plugin, place, { ...samples.valid(plugin, place, 'second'), second: 2 }, 2),
    )
    await bench.apply(older)
    expect((await bench.apply(newer)).replaced).toBe(cases.length)
    expect(await bench.apply(older)).toMatchObject({ inserted: 0, replaced: 0, stale: cases.length })
    for (const [i, { plugin }] of cases.entries()) await bench.expectIndexed(plugin, newer[i]!)
    await bench.expectCountersRight()
  })

  test('delete: nothing is left of it; written again later, it is back', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) => created(plugin, place, record, 1))
    await bench.apply(events)
    expect((await bench.apply(events.map((event) => deleted(event, 2)))).removed).toBe(cases.length)
    for (const [i, { plugin }] of cases.entries()) await bench.expectGone(plugin, events[i]!)
    await bench.expectCountersRight()
    const again = cases.map(({ plugin, place, record }) => created(plugin, place, record, 3))
    expect((await bench.apply(again)).inserted).toBe(cases.length)
    for (const [i, { plugin }] of cases.entries()) {
      await bench.expectIndexed(plugin, again[i]!)
    }
    await bench.expectCountersRight()
  })

  test('delete before create: it never comes to life', async ({ database }) => {
    await using bench = await Bench.on(database)
    const events = cases.map(({ plugin, place, record }) => created(plugin, place, record, 1))
    await bench.apply(events.map((event) => deleted(event, 2)))
    expect(await bench.apply(events)).toMatchObject({ inserted: 0, replaced: 0, stale: cases.length })
    for (const [i, { plugin }] of cases.entries()) await bench.expectGone(plugin, events[i]!)
    await bench.expectCountersRight()
  })

  test.for([['the first first'], ['the second first']])(
    'duplicate, %s: one counts, the other takes over',
    async ([order], { database }) => {
      await using bench = await Bench.on(database)
      let contested = 0
      for (const { plugin, place, record } of cases) {
        const first = created(plugin, place, record, 1)
        const second = created(plugin, { ...place, rkey: `${place.rkey.slice(0, -1)}z` }, record, 2)
        if (uriOf(first) >= uriOf(second) || plugin.refuses(entryOf(second)) !== undefined) continue
        for (const event of order === 'the first first' ? [first, second] : [second, first]) await bench.apply([event])
        await bench.expectIndexed(plugin, first)
        if (plugin.unique.length === 0) {
          await bench.expectIndexed(plugin, second)
          continue
        }
        contested++
        const waiting = { json: JSON.stringify(record), cid: second.cid, duplicateOf: uriOf(first) }
        const found = await footprint(bench.db, plugin, uriOf(second))
        expect.soft(found, plugin.nsid).toEqual({ ...waiting, rows: {}, notifications: [], hasTombstone: false })
        await bench.apply([deleted(first, 3)])
        await bench.expectGone(plugin, first)
        await bench.expectIndexed(plugin, second)
      }
      expect(contested).toBe(plugins.filter(({ unique }) => unique.length > 0).length)
      await bench.expectCountersRight()
    },
  )
})

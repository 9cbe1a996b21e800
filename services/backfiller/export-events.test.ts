import { describe, expect, test } from 'vitest'
import type { JsonObject } from '@sluice/atproto/cbor.ts'
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import { readRepoExport, type RepoExport } from '@sluice/atproto/repo-export.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import type { CollectionFilter } from '@sluice/collections/patterns.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import type { CreateEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { chunksOf, eventsOf, headOf, type ChunkLimits, type ExportChunk } from './export-events.ts'
import { IndexModel } from './testing/index-model.ts'
import { records } from './testing/records.ts'

const TIME = '2026-02-03T04:05:06.789Z'
const SMALL: ChunkLimits = { creates: 50, keys: 70, chars: 1e9 }
const onlyLikes: CollectionFilter = (collection) => collection === 'app.bsky.feed.like'
const all: CollectionFilter = () => true

async function exported(size: number, seed = 1): Promise<{ repo: TestRepo; verified: RepoExport }> {
  const repo = new TestRepo(testDid(`events ${seed}`))
  repo.write(records(new Random(seed), size))
  const verified = await readRepoExport([repo.export()], { did: repo.did, signingKey: repo.key.did })
  return { repo, verified }
}

/** The creates of chunks, as whoever reads the stream gets them. */
const createsOf = (chunks: readonly ExportChunk[]): CreateEvent[] =>
  chunks.flatMap(({ creates }) => creates.map((event) => streamEventCodec.decode({ event }) as CreateEvent))

const chunks = (verified: RepoExport, resync: boolean, wanted = all, limits = SMALL): ExportChunk[] => [
  ...chunksOf(verified, { time: TIME, resync, wanted, limits }),
]

test.each([0, 1, 50, 51, 333])('%i records are in the chunks once each, within the limits', async (size) => {
  const { repo, verified } = await exported(size)
  using _ = verified
  const made = chunks(verified, true)
  expect(Math.max(...made.map(({ creates }) => creates.length))).toBeLessThanOrEqual(SMALL.creates)
  expect(made.map(({ isLast }) => isLast)).toEqual(made.map((_, i) => i === made.length - 1))
  const found = createsOf(made).map(({ collection, rkey, cid }) => [`${collection}/${rkey}`, cid])
  const wanted = [...repo.records].sort(([a], [b]) => (a < b ? -1 : 1)).map(([path, { cid }]) => [path, formatCid(cid)])
  expect(found).toEqual(wanted)
})

test('the ranges of a resync tile all keys, and name those of collections that are not carried too', async () => {
  const { repo, verified } = await exported(400)
  using _ = verified
  const made = chunks(verified, true, onlyLikes)
  expect(made.length).toBeGreaterThan(3)
  const ranges = made.map(({ range }) => range!.range!)
  expect(ranges[0]![0]).toBe('')
  expect(ranges.at(-1)![1]).toBe('')
  for (const [i, [from]] of ranges.entries()) if (i > 0) expect(from).toBe(ranges[i - 1]![1])
  for (const { range } of made) {
    const [from, to] = range!.range!
    expect(range!.keys!.every((key) => key >= from && (to === '' || key < to))).toBe(true)
  }
  expect(made.flatMap(({ range }) => range!.keys!)).toEqual([...repo.records.keys()].sort())
  expect(createsOf(made).every(({ collection }) => onlyLikes(collection))).toBe(true)
})

test('C1: the range of a chunk goes before its records, so that no older commit can come between', async () => {
  const { verified } = await exported(200)
  using _ = verified
  for (const chunk of chunks(verified, true)) {
    const [first, ...others] = eventsOf(chunk)
    expect(first).toBe(chunk.range)
    expect(others).toEqual(chunk.creates)
  }
})

test('a first time pays nothing for the removal', async () => {
  const { verified } = await exported(200)
  using _ = verified
  expect(chunks(verified, false).some(({ range }) => range !== undefined)).toBe(false)
})

test('C6: chunks in any order, repeated, make an index that held something else equal to the repository', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = new Random(seed)
    const { repo, verified } = await exported(300, seed)
    using _ = verified
    const index = new IndexModel()
    for (const { path } of records(random, 100)) {
      const [collection = '', rkey = ''] = path.split('/')
      const base = { seq: 1, time: TIME, did: repo.did, commit: 'old', rev: '3aaaaaaaaaaa2', collection, rkey }
      index.apply({ type: 'create', ...base, cid: 'old', record: {} })
    }
    const made = chunks(verified, true)
    for (const chunk of random.shuffled([...made, ...made.slice(0, 3)]))
      for (const event of random.shuffled([...createsOf([chunk]), chunk.range!])) index.apply(event)
    index.apply(headOf(verified, TIME))
    const wanted = new Map([...repo.records].map(([path, { cid }]) => [path, formatCid(cid)]))
    expect(index.contents(repo.did)).toEqual(wanted)
    expect(index.repo(repo.did).rev).toBe(repo.rev)
  }
})

describe('no chunk is long in the making, whatever the records are', () => {
  const FLOAT = Buffer.from('a16161fb3ff8000000000000', 'hex')

  async function made(resync: boolean, write: (repo: TestRepo) => void, limits = SMALL): Promise<ExportChunk[]> {
    const repo = new TestRepo(testDid('odd records'))
    write(repo)
    using verified = await readRepoExport([repo.export()], { did: repo.did, signingKey: repo.key.did })
    return chunks(verified, resync, onlyLikes, limits)
  }

  function many(repo: TestRepo, count: number, pathOf: (i: number) => string, record: JsonObject = {}): void {
    repo.write(Array.from({ length: count }, (_, i) => ({ path: pathOf(i), record })))
  }

  /** The same block under each path, which no record can be. */
  function undecodable(repo: TestRepo, count: number, block: Buffer): void {
    for (let i = 0; i < count; i++) repo.records.set(`app.bsky.feed.like/${i}`, { cid: cidOf(block), block })
    repo.write([])
  }

  test.each([
    ['that nobody wants', (repo: TestRepo) => many(repo, 500, (i) => `com.example.junk/${i}`)],
    ['whose path is none', (repo: TestRepo) => many(repo, 500, (i) => `no path ${i}`)],
    ['that cannot be decoded', (repo: TestRepo) => undecodable(repo, 500, FLOAT)],
  ])('records %s are counted, and told of in parts', async (_, write) => {
    for (const resync of [false, true]) {
      const all = await made(resync, write)
      const counts = all.map(({ refused, filtered }) => refused.length + filtered)
      expect(Math.max(...counts)).toBeLessThanOrEqual(SMALL.keys)
      expect(counts.reduce((sum, count) => sum + count)).toBe(500)
      expect(all.map(({ isLast }) => isLast)).toEqual(all.map((_, i) => i === all.length - 1))
    }
  })

  test('ranges tile the keys around paths that are none, and none begins or ends with one', async () => {
    const all = await made(true, (repo) => {
      many(repo, 100, (i) => `app.bsky.feed.like/${i}`)
      many(repo, 500, (i) => `app.bsky.feed.like/no path ${i}`)
      many(repo, 100, (i) => `com.example.junk/${i}`)
    })
    const ranges = all.flatMap(({ range }) => (range ? [range] : []))
    const bounds = ranges.flatMap(({ range }) => range!)
    expect(bounds.filter((bound) => bound.includes(' '))).toEqual([])
    expect([bounds[0], bounds.at(-1)]).toEqual(['', ''])
    for (let i = 1; i < ranges.length; i++) expect(ranges[i]!.range![0]).toBe(ranges[i - 1]!.range![1])
    expect(ranges.flatMap(({ keys }) => keys!)).toHaveLength(200)
    expect(createsOf(all)).toHaveLength(100)
    expect(all.flatMap(({ refused }) => refused)).toHaveLength(500)
  })

  test('what is decoded in vain counts as what is carried', async () => {
    const block = Buffer.concat([Buffer.from([0x82, 0x59, 0x27, 0x10]), Buffer.alloc(10_000), Buffer.from([0xfb])])
    const all = await made(false, (repo) => undecodable(repo, 60, Buffer.concat([block, Buffer.alloc(8)])), {
      ...SMALL,
      chars: 100_000,
    })
    expect(all.map(({ refused }) => refused.length)).toEqual([10, 10, 10, 10, 10, 10])
  })

  test('a chunk is bounded by its text, which may be far more than the record was', async () => {
    const record = { control: '\u0001'.repeat(10_000) }
    const all = await made(false, (repo) => many(repo, 40, (i) => `app.bsky.feed.like/${i}`, record), {
      ...SMALL,
      chars: 100_000,
    })
    expect(all.length).toBeGreaterThan(15)
    expect(createsOf(all).map(({ record }) => record)).toEqual(Array.from({ length: 40 }, () => record))
  })
})

import { expect, test } from 'vitest'
import { formatCid } from '@sluice/atproto/cid.ts'
import type { CollectionFilter } from '@sluice/atproto/collection-filter.ts'
import { readRepoExport, type RepoExport } from '@sluice/atproto/repo-export.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { chunksOf, headOf, type ChunkLimits, type ExportChunk } from './export-events.ts'
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

const chunks = (verified: RepoExport, resync: boolean, wanted = all, limits = SMALL): ExportChunk[] => [
  ...chunksOf(verified, { time: TIME, resync, wanted, limits }),
]

test.each([0, 1, 50, 51, 333])('%i records are in the chunks once each, within the limits', async (size) => {
  const { repo, verified } = await exported(size)
  using _ = verified
  const made = chunks(verified, true)
  expect(Math.max(...made.map(({ creates }) => creates.length))).toBeLessThanOrEqual(SMALL.creates)
  expect(made.map(({ isLast }) => isLast)).toEqual(made.map((_, i) => i === made.length - 1))
  const found = made
    .flatMap(({ creates }) => creates)
    .map(({ collection, rkey, cid }) => [`${collection}/${rkey}`, cid])
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
  expect(made.flatMap(({ creates }) => creates).every(({ collection }) => onlyLikes(collection))).toBe(true)
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
    for (const { creates, range } of random.shuffled([...made, ...made.slice(0, 3)]))
      for (const event of random.shuffled([...creates, range!])) index.apply(event)
    index.apply(headOf(verified, TIME))
    const wanted = new Map([...repo.records].map(([path, { cid }]) => [path, formatCid(cid)]))
    expect(index.contents(repo.did)).toEqual(wanted)
    expect(index.repo(repo.did).rev).toBe(repo.rev)
  }
})

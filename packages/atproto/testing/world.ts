/** Accounts that post, like, follow and delete, for benches and random tests. Deterministic by seed. */
import { TestRepo, type Made, type Write } from './repo.ts'
import { random, type Random } from './random.ts'

const WORDS = 'the quick brown fox jumps over lazy dogs while rain falls on Zürich and 東京 every day'.split(' ')
const COLLECTIONS = [
  'app.bsky.feed.like',
  'app.bsky.feed.like',
  'app.bsky.feed.like',
  'app.bsky.feed.post',
  'app.bsky.graph.follow',
  'app.bsky.feed.repost',
]
const SUBJECT_CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'
const RKEY_CHARS = '234567abcdefghijklmnopqrstuvwxyz'

/** A `did:plc` of a seed. */
export function testDid(seed: string): string {
  const draw = random(seed)
  return `did:plc:${Array.from({ length: 24 }, () => draw.pick('abcdefghijklmnopqrstuvwxyz234567'.split(''))).join('')}`
}

/** A repository with `records` records, in one commit. */
export function populatedRepo(seed: string, records: number): TestRepo {
  const draw = random(seed)
  const repo = new TestRepo(testDid(seed))
  const writes = new Map<string, Write>()
  while (writes.size < records) {
    const write = newRecord(draw)
    writes.set(write.path, write)
  }
  repo.write([...writes.values()])
  return repo
}

/** The next `count` commits of a repository: mostly one new record, some deletions, updates and several ops at once. */
export function traffic(repo: TestRepo, seed: string, count: number): Made[] {
  const draw = random(seed)
  return Array.from({ length: count }, () => {
    const writes = new Map<string, Write>()
    const ops = draw.below(10) === 0 ? 1 + draw.below(4) : 1
    while (writes.size < ops) {
      const write = draw.below(8) === 0 ? changed(repo, draw) : newRecord(draw)
      writes.set(write.path, write)
    }
    return repo.write([...writes.values()])
  })
}

function changed(repo: TestRepo, draw: Random): Write {
  const path = draw.pick([...repo.records.keys()])
  return { path, record: draw.below(3) === 0 ? recordFor(path.slice(0, path.indexOf('/')), draw) : null }
}

function newRecord(draw: Random): Write {
  const collection = draw.pick(COLLECTIONS)
  const rkey = `3l${Array.from({ length: 11 }, () => RKEY_CHARS[draw.below(32)]!).join('')}`
  return { path: `${collection}/${rkey}`, record: recordFor(collection, draw) }
}

function recordFor(collection: string, draw: Random): Record<string, unknown> {
  const createdAt = new Date(1.76e12 + draw.below(1e9)).toISOString()
  const someone = testDid(String(draw.below(1_000)))
  const strongRef = { cid: SUBJECT_CID, uri: `at://${someone}/app.bsky.feed.post/3l${draw.below(1e9)}` }
  if (collection === 'app.bsky.graph.follow') return { $type: collection, subject: someone, createdAt }
  if (collection !== 'app.bsky.feed.post') return { $type: collection, subject: strongRef, createdAt }
  const text = Array.from({ length: 5 + draw.below(30) }, () => draw.pick(WORDS)).join(' ')
  const reply = draw.below(3) === 0 && { reply: { parent: strongRef, root: strongRef } }
  return { $type: collection, text, langs: ['en'], createdAt, ...reply }
}

/** Records such as real accounts have, for the repositories of tests. */
import type { Write } from '@sluice/atproto/testing/repo.ts'
import type { Random } from '@sluice/sandbox/random.ts'

const RKEY_CHARS = '234567abcdefghijklmnopqrstuvwxyz'
const SUBJECT_CID = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'
const COLLECTIONS = [
  'app.bsky.feed.like',
  'app.bsky.feed.like',
  'app.bsky.feed.post',
  'app.bsky.graph.follow',
  'app.bsky.feed.repost',
] as const

/** `count` new records. */
export function records(random: Random, count: number): Write[] {
  const writes = new Map<string, Write>()
  while (writes.size < count) {
    const write = newRecord(random)
    writes.set(write.path, write)
  }
  return [...writes.values()]
}

function newRecord(random: Random): Write {
  const collection = random.pick(COLLECTIONS)
  const rkey = `3l${Array.from({ length: 11 }, () => RKEY_CHARS[random.below(32)]!).join('')}`
  return { path: `${collection}/${rkey}`, record: recordOf(collection, random) }
}

/** A valid record of a collection. */
export function recordOf(collection: string, random: Random): Record<string, unknown> {
  const createdAt = new Date(1.76e12 + random.below(1e9)).toISOString()
  const someone = `did:plc:${Array.from({ length: 24 }, () => random.pick('abcdefghijklmnopqrstuvwxyz234567'.split(''))).join('')}`
  const subject = { cid: SUBJECT_CID, uri: `at://${someone}/app.bsky.feed.post/3l${random.below(1e9)}` }
  switch (collection) {
    case 'app.bsky.graph.follow':
      return { $type: collection, subject: someone, createdAt }
    case 'app.bsky.feed.post':
      return { $type: collection, text: `post ${random.below(1e9)} – ümläut 東京`, langs: ['en'], createdAt }
    default:
      return { $type: collection, subject, createdAt }
  }
}

import { describe, expect, test } from 'vitest'
import { readCar } from './car.ts'
import { encodeCbor } from './cbor-encode.ts'
import { asBuffer } from './bytes.ts'
import { cidOf, formatCid } from './cid.ts'
import { eventsOfCommit, type CommitEvents, type OpRefusal } from './commit-events.ts'
import { decodeFrame, type CommitFrame } from './frame.ts'
import { writeCar } from './testing/car-write.ts'
import { encodeFrame } from './testing/frames.ts'
import { link, TestRepo, type CommitBody } from './testing/repo.ts'
import { testDid } from './testing/world.ts'

const NOW = '2026-11-21T07:00:00.000Z'
const POST = {
  $type: 'app.bsky.feed.post',
  text: 'a\u0000b\\u0000',
  createdAt: '2026-01-01T00:00:00.000Z',
  n: [1, 2, 255],
  raw: { $bytes: 'AQID' },
}
const all = () => true

function eventsOf(body: CommitBody, wanted: (collection: string) => boolean = all): CommitEvents {
  const frame = decodeFrame(encodeFrame('#commit', body)) as CommitFrame
  return eventsOfCommit(frame, readCar(frame.blocks).blocks, { wanted, now: NOW })
}

test('each op is an event, in the order of the ops', () => {
  const repo = new TestRepo(testDid('events'))
  repo.write(['a', 'b'].map((rkey) => ({ path: `app.bsky.feed.post/${rkey}`, record: POST })))
  const { body } = repo.write([
    { path: 'app.bsky.feed.post/b', record: { ...POST, text: 'changed' } },
    { path: 'app.bsky.feed.post/c', record: POST },
    { path: 'app.bsky.feed.post/a', record: null },
  ])
  const head = {
    seq: 2,
    time: body.time,
    did: repo.did,
    commit: formatCid(repo.commit!),
    rev: repo.rev,
    collection: 'app.bsky.feed.post',
  }
  const { events, refused, filtered } = eventsOf(body)
  expect(events).toEqual([
    { type: 'update', ...head, rkey: 'b', cid: body.ops[0]!.cid!.$link, record: { ...POST, text: 'changed' } },
    { type: 'create', ...head, rkey: 'c', cid: body.ops[1]!.cid!.$link, record: POST },
    { type: 'delete', ...head, rkey: 'a' },
  ])
  expect({ refused, filtered }).toEqual({ refused: [], filtered: 0 })
  for (const event of events)
    if (event.type !== 'delete') expect(formatCid(cidOf(encodeCbor(event.record)))).toBe(event.cid)
})

describe('one bad op is refused by itself, and its siblings become events', () => {
  const big = { ...POST, text: 'x'.repeat(1_000_001) }
  const float = Buffer.from('a1616 1fb3ff8000000000000'.replaceAll(' ', ''), 'hex')

  test.each<[OpRefusal, string, (body: CommitBody) => CommitBody]>([
    ['op-bad-path', 'a collection that is none', (b) => withOp(b, { path: 'feed/3k' })],
    ['op-bad-path', 'a record key that is none', (b) => withOp(b, { path: 'app.bsky.feed.post/a b' })],
    ['op-bad-path', 'no record key', (b) => withOp(b, { path: 'app.bsky.feed.post' })],
    ['op-bad-path', 'a segment too many', (b) => withOp(b, { path: 'app.bsky.feed.post/a/b' })],
    ['op-unknown-action', 'an action of the future', (b) => withOp(b, { action: 'move' })],
    ['op-bad-link', 'no CID', (b) => withOp(b, { cid: null })],
    [
      'op-bad-link',
      'a CID of raw bytes',
      (b) => withOp(b, { cid: { $link: 'bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity' } }),
    ],
    [
      'op-missing-block',
      'a record that is not there',
      (b) => withOp(b, { cid: { $link: 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a' } }),
    ],
    ['op-record-too-large', 'a megabyte and more', (b) => withRecord(b, encodeCbor(big))],
    ['cbor-float', 'a record with a float', (b) => withRecord(b, float)],
    ['cbor-not-a-map', 'a record that is text', (b) => withRecord(b, encodeCbor('text'))],
    ['cbor-truncated', 'a record cut short', (b) => withRecord(b, encodeCbor(POST).subarray(0, -1))],
  ])('%s: %s', (reason, _, change) => {
    const repo = new TestRepo(testDid('siblings'))
    const made = repo.write(
      ['a', 'b', 'c'].map((rkey) => ({ path: `app.bsky.feed.post/${rkey}`, record: { ...POST, rkey } })),
    )
    const body = change(made.body)
    const { events, refused } = eventsOf(body)
    expect(refused).toEqual([{ path: body.ops[1]!.path, reason }])
    expect(events.map(({ rkey }) => rkey)).toEqual(['a', 'c'])
  })
})

function withOp(body: CommitBody, change: Record<string, unknown>): CommitBody {
  return { ...body, ops: body.ops.map((op, i) => (i === 1 ? { ...op, ...change } : op)) }
}

function withRecord(body: CommitBody, block: Uint8Array): CommitBody {
  const { root, blocks } = readCar(body.blocks)
  const cid = cidOf(block)
  return withOp({ ...body, blocks: writeCar(root, [...blocks, [cid, asBuffer(block)]]) }, { cid: link(cid) })
}

test('a time that is none is replaced by ours; others become UTC with milliseconds', () => {
  const repo = new TestRepo(testDid('times'))
  const { body } = repo.write([{ path: 'app.bsky.feed.post/a', record: POST }])
  expect(eventsOf({ ...body, time: 'soon' }).events[0]!.time).toBe(NOW)
  expect(eventsOf({ ...body, time: '2026-02-01T01:00:00+01:00' }).events[0]!.time).toBe('2026-02-01T00:00:00.000Z')
})

test('ops of collections that are not wanted are counted, and cost no refusal', () => {
  const repo = new TestRepo(testDid('filtered'))
  const { body } = repo.write(
    ['app.bsky.feed.post/a', 'app.bskyother.foo/a', 'com.example.thing/a'].map((path) => ({ path, record: POST })),
  )
  const { events, refused, filtered } = eventsOf(body, (collection) => collection.startsWith('app.bsky.'))
  expect(events.map(({ collection }) => collection)).toEqual(['app.bsky.feed.post'])
  expect({ refused, filtered }).toEqual({ refused: [], filtered: 2 })
})

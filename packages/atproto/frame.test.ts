import { Frame as OfficialFrame } from '@atproto/xrpc-server'
import { describe, expect, test } from 'vitest'
import { formatCid } from './cid.ts'
import { decodeFrame, frameTypeOf, type FrameRefusal } from './frame.ts'
import { encodeCbor } from './cbor-encode.ts'
import { encodeErrorFrame, encodeFrame } from './testing/frames.ts'
import { populatedRepo } from './testing/world.ts'

const TIME = '2026-11-21T07:00:00.000Z'
const DID = 'did:plc:z72i7hdynmk6r22z27h6tvur'
const identity = { seq: 5, time: TIME, did: DID, handle: 'a.test' }
const account = { seq: 6, time: TIME, did: DID, active: false, status: 'takendown' }
const label = { ver: 1, src: DID, uri: 'at://x', val: 'spam', cts: TIME, sig: { $bytes: 'AQID' } }

describe('frames become what they say', () => {
  test('#commit and #sync, as the official library reads them', () => {
    const repo = populatedRepo('frames', 5)
    const made = repo.write([{ path: 'app.bsky.feed.post/3k', record: { $type: 'app.bsky.feed.post' } }])
    const frame = decodeFrame(made.bytes)
    const { body } = OfficialFrame.fromBytes(made.bytes) as unknown as {
      body: Record<string, unknown> & { ops: { cid: unknown }[] }
    }
    if (frame.type !== 'commit') throw new Error(frame.type)
    expect(frame).toMatchObject({
      seq: body.seq,
      time: body.time,
      did: body.repo,
      rev: body.rev,
      since: body.since,
      tooBig: false,
      frameBytes: made.bytes.length,
    })
    expect(formatCid(frame.commit)).toBe(String(body.commit))
    expect(formatCid(frame.prevData!)).toBe(String(body.prevData))
    expect(formatCid(frame.ops[0]!.cid!)).toBe(String(body.ops[0]!.cid))
    expect(frame.ops[0]).toMatchObject({ action: 'create', path: 'app.bsky.feed.post/3k', prev: null })
    expect(frame.blocks.equals(body.blocks as Uint8Array)).toBe(true)
    expect(frame.blocks.buffer).toBe(made.bytes.buffer)
    const { bytes } = repo.sync()
    const sync = { type: 'sync', did: repo.did, rev: repo.rev, frameBytes: bytes.length }
    expect(decodeFrame(bytes)).toMatchObject(sync)
  })

  test('of bytes of any kind, wherever they lie in their memory', () => {
    const { bytes } = populatedRepo('plain bytes', 2).write([])
    const memory = new Uint8Array(bytes.length + 20)
    const plain = memory.subarray(7, 7 + bytes.length)
    plain.set(bytes)
    expect(frameTypeOf(plain)).toBe('#commit')
    expect(decodeFrame(plain)).toEqual(decodeFrame(bytes))
  })

  test.each([
    ['#identity', identity, { type: 'identity', ...identity }],
    ...[undefined, 'no handle', '\u0001'.repeat(1_000_000), `${'a.'.repeat(130)}test`, 5].map(
      (handle): [string, object, object] => [
        '#identity',
        { ...identity, handle },
        { type: 'identity', seq: 5, time: TIME, did: DID },
      ],
    ),
    ['#account', account, { type: 'account', ...account }],
    [
      '#account',
      { ...account, active: true, status: undefined },
      { type: 'account', seq: 6, time: TIME, did: DID, active: true },
    ],
    [
      '#account',
      { ...account, status: 'something of the future' },
      { type: 'account', ...account, status: 'something of the future' },
    ],
    ...['a\u0000b', 'a\nb', 'a\u0085b', 'x'.repeat(65)].map((status): [string, object, object] => [
      '#account',
      { ...account, status },
      { type: 'account', seq: 6, time: TIME, did: DID, active: false },
    ]),
    ['#info', { name: 'OutdatedCursor', message: 'older' }, { type: 'info', name: 'OutdatedCursor', text: 'older' }],
    [
      '#info',
      { name: 'N'.repeat(1_000), message: 'm'.repeat(1_000_000) },
      { type: 'info', name: 'N'.repeat(200), text: 'm'.repeat(200) },
    ],
    ['#labels', { seq: 7, labels: [label] }, { type: 'labels', seq: 7, labels: [label], refused: 0 }],
    [
      '#labels',
      { seq: 7, labels: [label, { ...label, val: 3 }, 'x', { ...label, neg: true }] },
      { type: 'labels', seq: 7, labels: [label, { ...label, neg: true }], refused: 2 },
    ],
    ['#tombstone', { seq: 1 }, { type: 'unknown', t: '#tombstone' }],
  ])('%s', (t, body, expected) => {
    const bytes = encodeFrame(t, body)
    expect(decodeFrame(bytes)).toEqual(expected)
    expect(frameTypeOf(bytes)).toBe(t)
  })

  test('an error frame gives its name and message, each cut at 200 characters', () => {
    expect(decodeFrame(encodeErrorFrame('FutureCursor', 'ahead'))).toEqual({
      type: 'error',
      error: 'FutureCursor',
      text: 'ahead',
    })
    expect(decodeFrame(encodeErrorFrame('ConsumerTooSlow'))).toEqual({ type: 'error', error: 'ConsumerTooSlow' })
    expect(decodeFrame(encodeErrorFrame('E'.repeat(1_000), 'm'.repeat(1_000)))).toEqual({
      type: 'error',
      error: 'E'.repeat(200),
      text: 'm'.repeat(200),
    })
  })

  test('an op of the future is a frame of the future', () => {
    const bytes = Buffer.concat([encodeCbor({ op: 2, t: '#commit' }), encodeCbor({})])
    expect(decodeFrame(bytes)).toEqual({ type: 'unknown', t: 'op 2' })
  })

  test('fields that nobody knows are ignored, and the keys of an envelope need no order', () => {
    const header = Buffer.from('a2626f7001617469236964656e74697479', 'hex') // {op, t}, the other way round
    expect(decodeFrame(Buffer.concat([header, encodeCbor({ ...identity, extra: { x: 1 } })]))).toEqual({
      type: 'identity',
      ...identity,
    })
  })
})

describe('what is no frame is refused by name', () => {
  const commit = populatedRepo('no frames', 2).write([]).body
  test.each<[FrameRefusal, string, Buffer]>([
    ['cbor-truncated', 'nothing', Buffer.alloc(0)],
    ['cbor-truncated', 'a header alone', encodeCbor({ op: 1, t: '#identity' })],
    ['cbor-truncated', 'a body cut short', encodeFrame('#commit', commit).subarray(0, -1)],
    ['cbor-unsupported', 'garbage', Buffer.alloc(20, 0xff)],
    ['frame-trailing-bytes', 'a third item', Buffer.concat([encodeFrame('#identity', identity), Uint8Array.of(0)])],
    [
      'frame-trailing-bytes',
      'a third item after labels',
      Buffer.concat([encodeFrame('#labels', { seq: 1, labels: [] }), Uint8Array.of(0)]),
    ],
    ['frame-bad-header', 'a header that is text', Buffer.concat([encodeCbor('x'), encodeCbor({})])],
    ['frame-bad-header', 'a header without op', Buffer.concat([encodeCbor({ t: '#commit' }), encodeCbor({})])],
    ['frame-bad-header', 'a header without t', Buffer.concat([encodeCbor({ op: 1 }), encodeCbor({})])],
    ['frame-bad-body', 'a body that is a list', encodeFrame('#commit', [])],
    ['frame-bad-body', 'labels that are a map', encodeFrame('#labels', { seq: 1, labels: {} })],
    ...Object.keys(commit)
      .filter((key) => !['blobs', 'rebase', 'tooBig', 'since', 'prevData'].includes(key))
      .map((key): [FrameRefusal, string, Buffer] => [
        'frame-bad-body',
        `a commit without ${key}`,
        encodeFrame('#commit', { ...commit, [key]: undefined }),
      ]),
    ...['seq', 'time', 'did', 'active'].map((key): [FrameRefusal, string, Buffer] => [
      'frame-bad-body',
      `an account event without ${key}`,
      encodeFrame('#account', { ...account, [key]: undefined }),
    ]),
    [
      'frame-bad-body',
      'a commit that is a text',
      encodeFrame('#commit', { ...commit, commit: 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a' }),
    ],
    ['frame-bad-body', 'an op that is a number', encodeFrame('#commit', { ...commit, ops: [1] })],
  ])('%s: %s', (reason, _, bytes) => {
    expect(() => decodeFrame(bytes)).toThrow(expect.objectContaining({ reason }))
  })
})

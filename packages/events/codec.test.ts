import { describe, expect, test } from 'vitest'
import {
  backfillEventCodec,
  InvalidEntryError,
  labelEventCodec,
  peekDid,
  recordText,
  streamEventCodec,
} from './codec.ts'
import { didOfUri, pathOf, rkeyOfUri, uriOf, type CreateEvent, type StreamEvent } from './stream-event.ts'

const commit = { seq: 7, time: '2026-06-01T00:00:00.000Z', did: 'did:plc:a', commit: 'bafyc', rev: '3lz' }
const path = { collection: 'app.bsky.feed.like', rkey: '3k' }
const created: CreateEvent = { type: 'create', ...commit, ...path, cid: 'bafyr', record: { $type: 'x', n: 1 } }

const events: StreamEvent[] = [
  created,
  { ...created, type: 'update' },
  { type: 'delete', ...commit, ...path },
  { type: 'repo', time: commit.time, did: commit.did, commit: 'bafyc', rev: '3lz' },
  {
    type: 'repo',
    time: commit.time,
    did: commit.did,
    commit: 'bafyc',
    rev: '3lz',
    range: ['a/', ''],
    keys: ['a/1', 'b/2'],
  },
  { type: 'account', seq: 1, time: commit.time, did: commit.did, active: false, status: 'takendown' },
  { type: 'identity', seq: 2, time: commit.time, did: commit.did, handle: 'a.test' },
]

const decode = (text: string) => streamEventCodec.decode({ event: text })

function reasonOf(act: () => unknown): string {
  try {
    act()
  } catch (error) {
    if (error instanceof InvalidEntryError) return error.reason
    throw error
  }
  return 'none'
}

describe('stream events', () => {
  test.each(events.map((event) => [event.type, event] as const))('%s survives the round trip', (_, event) => {
    expect(streamEventCodec.decode(streamEventCodec.encode(event))).toEqual(event)
  })

  test('an entry has the one field `event`, with the record last', () => {
    const fields = streamEventCodec.encode(created)
    expect(Object.keys(fields)).toEqual(['event'])
    expect(fields.event).toMatch(/,"record":\{"\$type":"x","n":1\}\}$/)
  })

  test.each([
    ['odd spacing', '{ "b" : 1,\n "a":[ ] }'],
    ['escapes', '{"a":"\\u0000\\u00e9\\/\\\\ \\"record\\":"}'],
    ['a key "record" inside', '{"record":{"record":1},"a":",\\"record\\":{}"}'],
    ['a key "record" behind another', '{"a" : 1,"record":{"b" : 2}}'],
    ['numbers in another notation', '{"a":1e3,"b":-0}'],
  ])('the record’s text is that of its producer, byte for byte: %s', (_, record) => {
    const { record: _record, ...head } = created
    const text = `${JSON.stringify(head).slice(0, -1)},"record":${record}}`
    const event = decode(text) as CreateEvent
    expect(recordText(event)).toBe(record)
    expect(event.record).toEqual(JSON.parse(record))
  })

  test.each(events.map((event) => [event.type, event] as const))(
    'the DID of %s is seen without decoding',
    (_, event) => {
      expect(peekDid(streamEventCodec.encode(event))).toBe(event.did)
    },
  )

  test.each([
    ['no field', undefined],
    ['no JSON', 'did'],
    ['no DID', '{"type":"create"}'],
    ['a DID that is none of the event’s', '{"record":{"did":"did:plc:b"},"did":"did:plc:a"}'],
    ['a DID in an array', '{"a":["x","did":"did:plc:b"],"did":"did:plc:a"}'],
    ['an escape', '{"did":"did:plc:\\u0061"}'],
    ['another notation', '{ "did" : "did:plc:a" }'],
    ['no end', '{"did":"did:plc:a'],
  ])('a DID that cannot be told at first sight is left to decoding: %s', (_, event) => {
    expect(peekDid(event === undefined ? {} : { event })).toBeUndefined()
  })

  test('text that speaks of DIDs is not taken for one', () => {
    const event = {
      type: 'account',
      seq: 1,
      time: 't',
      status: 'a ","did":"did:plc:b',
      did: 'did:plc:a',
      active: false,
    } as const
    expect(peekDid({ event: JSON.stringify(event) })).toBe('did:plc:a')
  })

  test('records of producers that do not put them last, or put an object before them, are serialised', () => {
    const { record, ...head } = created
    for (const odd of [
      { record, ...head },
      { ...head, more: { record: 2 }, record },
      { ...head, more: [',"record":'], record },
    ]) {
      const event = decode(JSON.stringify(odd)) as CreateEvent
      expect(JSON.parse(recordText(event))).toEqual(record)
    }
  })

  test.each([
    ['the key twice', '"record":{"a":1},"record":{"b":2}'],
    ['the key twice, spaced', '"record":{"a":1},"record" : {"b":2}'],
    ['the key twice, spelt in escapes', '"record":{"a":1},"\\u0072ecord":{"b":2}'],
    ['the key spaced, and one inside that is not', '"record" :{"a":1,"record":{"c":3},"b":2}'],
    ['the key in escapes, and one inside that is not', '"\\u0072ecord":{"a":1,"record":{"c":3},"b":2}'],
  ])('whatever an entry does to mislead (%s), the text says what the value says', (_, tail) => {
    const { record: _record, ...head } = created
    const event = decode(`${JSON.stringify(head).slice(0, -1)},${tail}}`) as CreateEvent
    expect(event.record.b).toBe(2)
    expect(JSON.parse(recordText(event))).toEqual(event.record)
  })

  test('fields that we do not know are kept out of the way', () => {
    expect(decode(JSON.stringify({ ...events[2], added: { later: true } }))).toMatchObject({
      type: 'delete',
      rkey: '3k',
    })
  })

  test.each([
    ['no JSON', '{', 'not-json'],
    ['no object', '[1]', 'not-an-event'],
    ['null', 'null', 'not-an-event'],
    ['an unknown type', '{"type":"party"}', 'not-an-event'],
    ['no type', '{}', 'not-an-event'],
    ['a create without record', JSON.stringify({ ...created, record: undefined }), 'not-an-event'],
    ['a record that is a list', JSON.stringify({ ...created, record: [] }), 'not-an-event'],
    ['a rev that is a number', JSON.stringify({ ...created, rev: 3 }), 'not-an-event'],
    ['a delete without rkey', JSON.stringify({ ...events[2], rkey: undefined }), 'not-an-event'],
    ['a range without keys', JSON.stringify({ ...events[3], range: ['', ''] }), 'not-an-event'],
    ['keys without a range', JSON.stringify({ ...events[3], keys: [] }), 'not-an-event'],
    ['an account without active', JSON.stringify({ ...events[5], active: undefined }), 'not-an-event'],
  ])('%s is refused by name', (_, text, reason) => {
    expect(reasonOf(() => decode(text))).toBe(reason)
  })

  test('an entry without the field is refused by name', () => {
    expect(reasonOf(() => streamEventCodec.decode({ repo: '{}' }))).toBe('missing-field')
    expect(reasonOf(() => backfillEventCodec.decode({ event: '{}' }))).toBe('missing-field')
  })
})

test('backfill requests: without a rev it is empty; without did or host they are refused', () => {
  const request = { did: 'did:plc:a', host: 'pds.test', rev: '3lz', reason: 'gap' as const }
  expect(backfillEventCodec.decode(backfillEventCodec.encode(request))).toEqual(request)
  expect(backfillEventCodec.decode({ repo: '{"did":"did:plc:a","host":"pds.test"}' })).toMatchObject({ rev: '' })
  expect(reasonOf(() => backfillEventCodec.decode({ repo: '{"did":"did:plc:a"}' }))).toBe('not-an-event')
})

test.each([{ rev: null }, { rev: 3 }, { attempts: '3' }, { attempts: null }, { attempts: -1 }, { attempts: 0.5 }])(
  'a backfill request with a field of another type, which who works on it would trip over, is refused: %j',
  (odd) => {
    const text = JSON.stringify({ did: 'did:plc:a', host: 'pds.test', ...odd })
    expect(reasonOf(() => backfillEventCodec.decode({ repo: text }))).toBe('not-an-event')
  },
)

test('labels: each needs src, uri, val and cts', () => {
  const label = { src: 'did:plc:l', uri: 'did:plc:a', val: 'spam', cts: commit.time }
  const event = { type: 'label' as const, label }
  expect(labelEventCodec.decode(labelEventCodec.encode(event))).toEqual(event)
  for (const key of Object.keys(label)) {
    const text = JSON.stringify({ type: 'label', label: { ...label, [key]: undefined } })
    expect(reasonOf(() => labelEventCodec.decode({ event: text }))).toBe('not-an-event')
  }
})

test('names: path, URI, the DID and the record key of a URI', () => {
  expect(pathOf(created)).toBe('app.bsky.feed.like/3k')
  expect(uriOf(created)).toBe('at://did:plc:a/app.bsky.feed.like/3k')
  expect(didOfUri(uriOf(created))).toBe('did:plc:a')
  expect(didOfUri('at://did:plc:a')).toBe('did:plc:a')
  expect(rkeyOfUri(uriOf(created))).toBe('3k')
})

/**
 * V5: a record goes from its block through the stream into `record.json`, and encodes to the CID under which it is
 * stored. What the columns of a plugin hold is the same text, but for NUL.
 */
import { decodeRecord } from '@sluice/atproto/cbor.ts'
import { encodeCbor } from '@sluice/atproto/cbor-encode.ts'
import { cidOf, formatCid } from '@sluice/atproto/cid.ts'
import { hasInterop, interopJson } from '@sluice/atproto/testing/interop.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { uriOf, type CreateEvent } from '@sluice/events/stream-event.ts'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { KnownActors } from './own.ts'
import { Story } from './testing/story.ts'

const SEED = Number(process.env.SEED ?? Date.now() % 1_000_000)
const NOTE = 'com.example.note'
const POST = 'app.bsky.feed.post'

const test = base
  .extend('index', async ({ database }, { onCleanup }): Promise<Index> => {
    const db = new DatabasePool({ url: database, schema: 'bsky', size: 2, role: 'test' })
    onCleanup(() => db.close())
    return { db, collections: new CollectionSet(collections, ['com.example.*']), actors: new KnownActors() }
  })
  .extend('story', async ({}) => new Story())

/** The event as it comes out of the stream, made from the record's block as the ingester does. */
function delivered(story: Story, collection: string, block: Buffer): CreateEvent {
  const event = story.put('ann', collection, {})
  const made = { ...event, cid: formatCid(cidOf(block)), record: decodeRecord(block) }
  return streamEventCodec.decode(streamEventCodec.encode(made)) as CreateEvent
}

/** Stores records, and expects each under its CID. Returns their JSON. */
async function store(index: Index, events: readonly CreateEvent[]): Promise<string[]> {
  const { refused } = await applyBatch(index, events)
  expect(refused).toEqual([])
  const uris = events.map(uriOf)
  const { rows } = await index.db.query<{ uri: string; cid: string; json: string }>('select uri, cid, json from record')
  const stored = new Map(rows.map((row) => [row.uri, row]))
  return uris.map((uri, i) => {
    const { cid, json } = stored.get(uri)!
    expect(cid).toBe(events[i]!.cid)
    expect(formatCid(cidOf(encodeCbor(JSON.parse(json)))), json.slice(0, 200)).toBe(cid)
    return json
  })
}

const TEXTS = [
  '',
  'é',
  '👍🏽',
  '\u0000',
  'a\u0000b',
  '\\u0000',
  '\\',
  '\\\\',
  '"',
  '\n\t\r\b\f',
  '/',
  '\u2028\u2029',
  '\ufeff',
  '\uffff',
  '\u{10ffff}',
  '$link',
  ',"record":{',
  'NaN',
  '\u007f\u0080',
]
const NUMBERS = [
  0,
  1,
  -1,
  23,
  24,
  255,
  256,
  65_535,
  65_536,
  2 ** 31,
  2 ** 32,
  Number.MAX_SAFE_INTEGER,
  Number.MIN_SAFE_INTEGER,
]

function value(random: Random, depth = 0): unknown {
  const simple: (() => unknown)[] = [
    () => random.pick(TEXTS) + random.pick(TEXTS),
    () => random.pick(NUMBERS),
    () => random.pick([true, false, null]),
    () => Uint8Array.from({ length: random.below(20) }, () => random.below(256)),
    () => ({ $link: formatCid(cidOf(Buffer.from([random.below(256)]))) }),
    () => Array.from({ length: random.below(20) }, () => random.below(256)),
  ]
  if (depth > 5 || random.chance(0.6)) return random.pick(simple)()
  if (random.chance(0.4)) return Array.from({ length: random.below(5) }, () => value(random, depth + 1))
  return map(random, depth + 1)
}

/**
 * No key of backslashes alone: V8 (Node 24.18) reads `{"a":1,"\"":1}` with the key `\` once it has read
 * `{"a":1,"\\":1}`. What is stored is right, since the text is cut from the entry; whoever parses it may see the other
 * key.
 */
function map(random: Random, depth = 0): object {
  const keys = [
    ...TEXTS.filter((text) => text !== '$link' && !/^\\+$/.test(text)),
    'a',
    'record',
    'constructor',
    'toString',
    '0',
    '10',
  ]
  return Object.fromEntries(Array.from({ length: random.below(6) }, () => [random.pick(keys), value(random, depth)]))
}

test(`whatever the data model allows is stored under its CID (seed ${SEED})`, async ({ index, story }) => {
  const random = new Random(SEED)
  const blocks = Array.from({ length: 400 }, () => encodeCbor({ ...map(random), $type: NOTE }))
  await store(
    index,
    blocks.map((block) => delivered(story, NOTE, block)),
  )
})

test('beside what the lexicon names, too', async ({ index, story }) => {
  const random = new Random(SEED + 1)
  const post = { $type: POST, text: 'x', createdAt: '2026-06-01T00:00:00.000Z' }
  const blocks = Array.from({ length: 100 }, () => encodeCbor({ ...post, odd: value(random) }))
  await store(
    index,
    blocks.map((block) => delivered(story, POST, block)),
  )
})

test('the protocol’s own vectors are stored under their CIDs', async ({ index, story, skip }) => {
  skip(!hasInterop, 'no vectors beside the repository')
  const vectors = interopJson('data-model/data-model-fixtures.json') as { cid: string; cbor_base64: string }[]
  const events = vectors.map(({ cid, cbor_base64: block }) => ({
    ...delivered(story, NOTE, Buffer.from(block, 'base64')),
    cid,
  }))
  await store(index, events)
})

test('a record of 1 MB and one nested as deeply as the ingester lets through', async ({ index, story }) => {
  let nested: unknown = 'bottom'
  for (let i = 0; i < 120; i++) nested = i % 2 ? [nested] : { a: nested }
  const blocks = [
    { long: 'ö'.repeat(499_000) },
    { bytes: new Uint8Array(990_000).fill(7) },
    { nested },
    { wide: Array.from({ length: 100_000 }, (_, i) => i) },
  ]
  await store(
    index,
    blocks.map((record) => delivered(story, NOTE, encodeCbor(record))),
  )
})

test('columns hold the text as it is, but for NUL', async ({ index, story }) => {
  const text = TEXTS.join('|')
  const block = encodeCbor({
    $type: POST,
    text,
    langs: ['en'],
    tags: ['a\u0000b', '\\u0000'],
    createdAt: '2026-06-01T00:00:00.000Z',
  })
  const [json] = await store(index, [delivered(story, POST, block)])
  expect((JSON.parse(json!) as { text: string }).text).toBe(text)
  const { rows } = await index.db.query('select text, tags from post')
  expect(rows).toEqual([{ text: text.replaceAll('\u0000', ''), tags: ['ab', '\\u0000'] }])
})

test.for([
  ['2026-06-01T00:00:00.000Z', '2026-06-01T00:00:00.000Z'],
  ['2026-06-01T02:00:00.123456+02:00', '2026-06-01T00:00:00.123Z'],
  ['1970-01-01T00:00:00Z', '1970-01-01T00:00:00.000Z'],
  ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
])(
  'createdAt %s is indexed as %s, and sorted by when it was seen if that was earlier',
  async ([claimed, normal], { index, story }) => {
    const event = delivered(story, POST, encodeCbor({ $type: POST, text: 'x', createdAt: claimed }))
    const [json] = await store(index, [event])
    expect(json).toContain(claimed)
    const { rows } = await index.db.query('select "createdAt", "indexedAt", "sortAt" from post')
    const sortAt = normal! < event.time ? normal : event.time
    expect(rows).toEqual([{ createdAt: normal, indexedAt: event.time, sortAt }])
  },
)

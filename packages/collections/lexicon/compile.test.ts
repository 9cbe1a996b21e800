import { schemas } from '@atproto/api'
import { FatalError } from '@sluice/runtime/errors.ts'
import { describe, expect, test } from 'vitest'
import { compileRecord, type RecordSchema } from './compile.ts'
import { asDocument } from './document.ts'
import { hasInterop, interopJson } from './testing/interop.ts'
import { EVERYTHING, everythingDocuments } from './testing/lexicons.ts'
import { mutate } from './testing/mutate.ts'
import { NOT_VALIDATED, officialVerdict, officialVerdicts, type Verdict } from './testing/official.ts'
import { random, seedOfRun } from './testing/random.ts'
import { RecordMaker } from './testing/records.ts'

const SEED = seedOfRun()
const RECORDS = 2_000

interface Tally {
  accepted: number
  refused: number
}

/**
 * Makes valid and mutated records, and compares our verdict on each with the official one. Fails on the first
 * difference.
 */
function expectSameVerdicts(ours: RecordSchema, official: Verdict, documents: readonly object[]): Tally {
  const chance = random(`${SEED} ${ours.nsid}`)
  const maker = new RecordMaker(documents, chance)
  const tally = { accepted: 0, refused: 0 }
  for (let i = 0; i < RECORDS; i++) {
    const made = maker.record(ours.nsid)
    const record: unknown = JSON.parse(JSON.stringify(i % 3 === 0 ? made : mutate(chance, made)))
    const violation = ours.validate(record)
    const isAccepted = official(record)
    if ((violation === undefined) !== isAccepted) {
      const verdicts = `official ${isAccepted ? 'accepts' : 'refuses'}, ours: ${violation ? `${violation.path} ${violation.message}` : 'accepts'}`
      expect.fail(`SEED=${SEED} ${ours.nsid} record ${i}: ${verdicts}\n${JSON.stringify(record)}`)
    }
    tally[isAccepted ? 'accepted' : 'refused']++
  }
  return tally
}

const officials = await officialVerdicts()
const validated = [...officials.keys()].filter((nsid) => !NOT_VALIDATED.includes(nsid))

describe('every record gets the verdict of the official indexer', () => {
  test.each(validated)('%s', (nsid) => {
    const tally = expectSameVerdicts(compileRecord(nsid), officials.get(nsid)!, schemas)
    expect(tally.accepted).toBeGreaterThan(RECORDS / 10)
    expect(tally.refused).toBeGreaterThan(RECORDS / 10)
  })
})

describe('a lexicon of one’s own', () => {
  test('with every type and every constraint gets the verdicts of the official library', async () => {
    const official = await officialVerdict(everythingDocuments, EVERYTHING)
    const tally = expectSameVerdicts(compileRecord(EVERYTHING, everythingDocuments), official, everythingDocuments)
    expect(tally.accepted).toBeGreaterThan(RECORDS / 20)
    expect(tally.refused).toBeGreaterThan(RECORDS / 10)
  })

  test('may refer to those that everyone knows, and replace them', () => {
    const record = { $type: 'com.example.rating', subject: { uri: 'at://did:plc:abc/a.b.c/d', cid: 'bafkqaaa' } }
    const rating = lexicon('com.example.rating', { subject: { type: 'ref', ref: 'com.atproto.repo.strongRef' } })
    expect(compileRecord('com.example.rating', [rating]).validate(record)).toBeUndefined()
    const defs = { main: { type: 'object', required: ['more'], properties: { more: { type: 'integer' } } } }
    const strongRef = { lexicon: 1, id: 'com.atproto.repo.strongRef', defs }
    expect(compileRecord('com.example.rating', [rating, strongRef]).validate(record)?.path).toBe('record.subject.more')
  })

  test('may have null and nested objects, which the official library does not know', () => {
    const properties = {
      nothing: { type: 'null' },
      inner: { type: 'object', required: ['a'], properties: { a: { type: 'integer' } } },
    }
    const old = compileRecord('com.example.old', [lexicon('com.example.old', properties)])
    expect(old.validate({ $type: 'com.example.old', nothing: null, inner: { a: 1, $type: 'any' } })).toBeUndefined()
    expect(old.validate({ $type: 'com.example.old', nothing: 0 })).toEqual({
      path: 'record.nothing',
      message: 'is not null',
    })
    expect(old.validate({ $type: 'com.example.old', inner: {} })).toEqual({
      path: 'record.inner.a',
      message: 'is missing',
    })
  })

  test.each([
    ['an unknown record', 'com.example.none', [], 'com.example.none is not known'],
    ['no record', 'com.atproto.repo.strongRef', [], 'com.atproto.repo.strongRef defines no record'],
    [
      'a missing document',
      'com.example.x',
      [lexicon('com.example.x', { a: { type: 'ref', ref: 'com.example.y' } })],
      'com.example.y is not known',
    ],
    [
      'a missing definition',
      'com.example.x',
      [lexicon('com.example.x', { a: { type: 'ref', ref: '#y' } })],
      'com.example.x has no definition y',
    ],
    ['a missing property', 'com.example.x', [lexicon('com.example.x', {}, ['a'])], 'there is no property a'],
    [
      'an unknown format',
      'com.example.x',
      [lexicon('com.example.x', { a: { type: 'string', format: 'date' } })],
      '"date" is not known',
    ],
    [
      'an unknown type',
      'com.example.x',
      [lexicon('com.example.x', { a: { type: 'float' } })],
      'a type "float" cannot stand there',
    ],
    [
      'a union of strings',
      'com.example.x',
      [lexicon('com.example.x', { a: { type: 'union', refs: ['com.atproto.label.defs#labelValue'] } })],
      'cannot be in a union',
    ],
    ['no document', 'com.example.x', [{ lexicon: 2, id: 'com.example.x', defs: {} }], 'the version is 2'],
  ])('%s is found when it is compiled', (_, nsid, documents, message) => {
    expect(() => compileRecord(nsid, documents)).toThrow(FatalError)
    expect(() => compileRecord(nsid, documents)).toThrow(message)
  })
})

function lexicon(id: string, properties: object, required: string[] = []): object {
  return {
    lexicon: 1,
    id,
    defs: { main: { type: 'record', key: 'any', record: { type: 'object', required, properties } } },
  }
}

const like = {
  $type: 'app.bsky.feed.like',
  subject: {
    uri: 'at://did:plc:abc/app.bsky.feed.post/3k',
    cid: 'bafyreiclp443lavogvhj3d2ob2cxbfuscni2k5jk7bebjzg7khl3esabwq',
  },
  createdAt: '2026-11-21T00:00:00.000Z',
}

function nested(depth: number): unknown {
  return JSON.parse(`${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`)
}

describe('where the verdict differs from the official one by intent', () => {
  const DIFFERENCES = [
    {
      record: { ...like, extra: nested(300) },
      ours: 'is nested more than 256 levels deep',
      reason: 'bounded stack; the ingester lets 128 levels through',
    },
  ]

  test.each(DIFFERENCES)('$reason', ({ record, ours }) => {
    expect(officials.get('app.bsky.feed.like')!(record)).toBe(true)
    expect(compileRecord('app.bsky.feed.like').validate(record)?.message).toBe(ours)
  })
})

describe('a violation', () => {
  const post = compileRecord('app.bsky.feed.post')

  test('says where and what', () => {
    const facets = [
      { index: { byteStart: 0, byteEnd: 1 }, features: [{ $type: 'app.bsky.richtext.facet#mention', did: 'me' }] },
    ]
    const found = post.validate({ $type: 'app.bsky.feed.post', text: '', facets, createdAt: like.createdAt })
    expect(found).toEqual({ path: 'record.facets[0].features[0].did', message: 'is not of format did' })
    expect(post.validate('text')).toEqual({ path: 'record', message: 'is not an object' })
    expect(post.validate(like)).toEqual({ path: 'record.$type', message: 'is another type' })
  })

  test('is returned, never thrown, whatever the value', () => {
    for (const value of [
      undefined,
      null,
      1,
      NaN,
      'x',
      [],
      [[]],
      {},
      nested(100_000),
      Symbol('x'),
      new Date(),
      Object.create(null),
    ]) {
      expect(post.validate(value)).toBeDefined()
    }
    expect(
      post.validate({ $type: 'app.bsky.feed.post', text: '', createdAt: like.createdAt, extra: nested(100_000) })
        ?.message,
    ).toContain('deep')
  })
})

describe.skipIf(!hasInterop)('interoperability vectors', () => {
  interface Data {
    name: string
    data: Record<string, { ref: object }>
  }
  interface Lexicon {
    name: string
    lexicon: object
  }
  const catalog = ['record', 'query', 'procedure', 'subscription', 'permission-set']
  const documents = catalog.flatMap((name) => interopJson<object[]>(`lexicon/catalog/${name}.json`, []))
  const valid = interopJson<Data[]>('lexicon/record-data-valid.json', [])
  const invalid = interopJson<Data[]>('lexicon/record-data-invalid.json', [])
  const schema = documents.length > 0 ? compileRecord('example.lexicon.record', documents) : undefined

  /**
   * Valid by the vectors, but refused by the official indexer and so by ours: a blob that refers to dag-cbor instead of
   * raw data.
   */
  const WITH_CBOR_BLOBS = ['full']
  const RAW = { $link: 'bafkreiccldh766hwcnuxnf2wh6jgzepf2nlu2lvcllt63eww5p6chi4ity' }

  test.each(valid.filter(({ name }) => !WITH_CBOR_BLOBS.includes(name)))('valid: $name', ({ data }) => {
    expect(schema!.validate(data)).toBeUndefined()
  })

  test.each(valid.filter(({ name }) => WITH_CBOR_BLOBS.includes(name)))(
    'valid but for the kind of its blobs: $name',
    ({ data }) => {
      expect(schema!.validate(data)).toEqual({ path: 'record.blob', message: 'does not refer to raw data' })
      const mended = structuredClone(data)
      for (const key of ['blob', 'sizeBlob', 'acceptBlob']) mended[key]!.ref = RAW
      expect(schema!.validate(mended)).toBeUndefined()
    },
  )

  test.each(invalid)('invalid: $name', ({ data }) => {
    expect(schema!.validate(data)).toBeDefined()
  })

  test.each(interopJson<Lexicon[]>('lexicon/lexicon-valid.json', []))('valid lexicon: $name', ({ lexicon }) => {
    expect(asDocument(lexicon)).toBe(lexicon)
  })

  test.each(interopJson<Lexicon[]>('lexicon/lexicon-invalid.json', []))('invalid lexicon: $name', ({ lexicon }) => {
    expect(() => asDocument(lexicon)).toThrow(FatalError)
  })
})

/** A lexicon that uses every type and every constraint, of definitions that refer to each other in circles. */
const OTHER = 'com.example.other'

const everything = {
  lexicon: 1,
  id: 'com.example.everything',
  defs: {
    main: {
      type: 'record',
      key: 'any',
      record: {
        type: 'object',
        required: ['name', 'nullableRequired'],
        nullable: ['nullableRequired', 'nullableOptional'],
        properties: {
          name: { type: 'string' },
          nullableRequired: { type: 'integer' },
          nullableOptional: { type: 'ref', ref: '#node' },
          formats: { type: 'ref', ref: '#formats' },
          lengths: { type: 'string', minLength: 10, maxLength: 20 },
          graphemes: { type: 'string', minGraphemes: 10, maxGraphemes: 20 },
          both: { type: 'string', maxGraphemes: 20, maxLength: 64, format: 'uri' },
          known: { type: 'string', knownValues: ['red', 'green'], default: 'red', maxLength: 11 },
          chosen: { type: 'string', enum: ['fish', 'tree'] },
          fixed: { type: 'string', const: 'stone' },
          nothing: { type: 'string', enum: ['a'], const: 'b' },
          count: { type: 'integer', minimum: -10, maximum: 10 },
          anyCount: { type: 'integer', default: 3 },
          chosenCount: { type: 'integer', enum: [0, 4, 9] },
          fixedCount: { type: 'integer', const: 42 },
          flag: { type: 'boolean', default: true },
          yes: { type: 'boolean', const: true },
          no: { type: 'boolean', const: false },
          bytes: { type: 'bytes' },
          someBytes: { type: 'bytes', minLength: 10, maxLength: 20 },
          link: { type: 'cid-link' },
          blob: { type: 'blob' },
          picture: { type: 'blob', accept: ['image/*', 'video/mp4'], maxSize: 1_000_000 },
          anyBlob: { type: 'blob', accept: ['*/*'] },
          noBlob: { type: 'blob', accept: [] },
          unknown: { type: 'unknown' },
          list: { type: 'array', items: { type: 'string', format: 'did' }, minLength: 2, maxLength: 5 },
          unknowns: { type: 'array', items: { type: 'unknown' } },
          links: { type: 'array', items: { type: 'cid-link' } },
          unions: { type: 'array', items: { type: 'union', refs: ['#node', OTHER] }, maxLength: 3 },
          open: { type: 'union', refs: ['#node', '#empty', `${OTHER}#thing`] },
          closed: { type: 'union', refs: ['#node', `${OTHER}#thing`], closed: true },
          openNothing: { type: 'union', refs: [] },
          closedNothing: { type: 'union', refs: [], closed: true },
          token: { type: 'ref', ref: '#aToken' },
          otherList: { type: 'ref', ref: `${OTHER}#listed` },
          otherRecord: { type: 'ref', ref: `${OTHER}#main` },
          string: { type: 'ref', ref: '#aString' },
          empty: { type: 'ref', ref: '#empty' },
        },
      },
    },
    node: {
      type: 'object',
      required: ['id'],
      properties: {
        id: { type: 'string', format: 'tid' },
        left: { type: 'ref', ref: '#node' },
        children: {
          type: 'array',
          items: { type: 'union', refs: ['#node', `${OTHER}#thing`], closed: true },
          maxLength: 2,
        },
      },
    },
    empty: { type: 'object', properties: {} },
    aToken: { type: 'token' },
    aString: { type: 'string', maxLength: 64, minLength: 1 },
    formats: {
      type: 'object',
      properties: Object.fromEntries(
        [
          'at-identifier',
          'at-uri',
          'cid',
          'datetime',
          'did',
          'handle',
          'language',
          'nsid',
          'record-key',
          'tid',
          'uri',
        ].map((format) => [format, { type: 'string', format }]),
      ),
    },
  },
}

const other = {
  lexicon: 1,
  id: OTHER,
  defs: {
    main: {
      type: 'record',
      key: 'tid',
      record: { type: 'object', required: ['at'], properties: { at: { type: 'string', format: 'datetime' } } },
    },
    thing: {
      type: 'object',
      properties: { node: { type: 'ref', ref: 'com.example.everything#node' }, value: { type: 'unknown' } },
    },
    listed: { type: 'array', items: { type: 'ref', ref: '#thing' }, minLength: 1, maxLength: 4 },
  },
}

export const EVERYTHING = everything.id
export const everythingDocuments: readonly object[] = [everything, other]

import { describe, expect, test } from 'vitest'
import { encodeCbor } from './cbor-encode.ts'
import { formatCid, parseCid, type Cid } from './cid.ts'
import {
  EMPTY_TREE,
  encodeNode,
  heightOf,
  parseNode,
  sharedPrefix,
  type MstRefusal,
  type NodeView,
} from './mst-node.ts'
import { PartialTree } from './mst.ts'
import { hasInterop, interopJson, interopLines } from './testing/interop.ts'

const NOBODY = 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a'

describe('a node', () => {
  test.skipIf(!hasInterop)('key heights, as in the interoperability vectors', () => {
    const vectors = interopJson('mst/key_heights.json') as { key: string; height: number }[]
    expect(vectors.map(({ key }) => heightOf(key))).toEqual(vectors.map(({ height }) => height))
    const named = interopLines('mst/example_keys.txt') // each line starts with a letter and its height
    expect(named.map(heightOf)).toEqual(named.map((key) => Number(key[1])))
  })

  test.skipIf(!hasInterop)('common prefixes, as in the interoperability vectors', () => {
    const vectors = interopJson('mst/common_prefix.json') as { left: string; right: string; len: number }[]
    expect(vectors.map(({ left, right }) => sharedPrefix(left, right))).toEqual(vectors.map(({ len }) => len))
  })

  test('the empty tree has the root that everybody knows', () => {
    expect(formatCid(EMPTY_TREE)).toBe('bafyreie5737gdxlw5i64vzichcalba3z2v5n6icifvx5xytvske7mr3hpm')
    expect(new PartialTree(new Map(), EMPTY_TREE).root()).toBe(EMPTY_TREE)
  })

  const link = (cid: string | null) => (cid === null ? null : { $link: cid })
  const entry = (prefix: number, suffix: string, t: string | null = null) => ({
    p: prefix,
    k: Buffer.from(suffix),
    v: link(NOBODY),
    t: link(t),
  })
  const good = { l: null, e: [entry(0, 'com.example.record/a'), entry(19, 'b', NOBODY), entry(0, 'd')] }

  test('is parsed, and encodes to the same bytes', () => {
    const block = encodeCbor(good)
    const { keys, values, trees } = parsed(block)
    expect(keys).toEqual(['com.example.record/a', 'com.example.record/b', 'd'])
    expect(trees.map((at) => at === -1)).toEqual([true, true, false, true])
    expect(values).toHaveLength(3)
    const nobody = parseCid(NOBODY)!
    expect(encodeNode(keys, [nobody, nobody, nobody], [null, null, nobody, null])).toEqual(block)
  })

  test.each([23, 24, 255, 256, 300, 1_024])(
    'with a key of %i bytes is parsed, and encodes to the same bytes',
    (bytes) => {
      const key = 'x'.repeat(bytes)
      const block = encodeCbor({ l: null, e: [entry(0, key), entry(bytes - 1, 'y')] })
      expect(parsed(block).keys).toEqual([key, `${key.slice(1)}y`])
      const nobody = parseCid(NOBODY)!
      expect(encodeNode(parsed(block).keys, [nobody, nobody], [null, null, null])).toEqual(block)
    },
  )

  test.each<[MstRefusal, string, unknown]>([
    ['mst-not-canonical', 'a prefix that could be longer', { l: null, e: [entry(0, 'ab'), entry(0, 'ac')] }],
    ['mst-wrong-order', 'a key before its predecessor', { l: null, e: [entry(0, 'b'), entry(0, 'a')] }],
    ['mst-bad-node', 'the same key twice', { l: null, e: [entry(0, 'ab'), entry(2, '')] }],
    ['mst-bad-node', 'a prefix longer than the key before', { l: null, e: [entry(0, 'ab'), entry(3, 'c')] }],
    ['mst-bad-node', 'a prefix in the first entry', { l: null, e: [entry(1, 'ab')] }],
    ['mst-bad-node', 'an empty key', { l: null, e: [entry(0, '')] }],
    ['mst-bad-node', 'a key of 1025 bytes', { l: null, e: [entry(0, 'x'.repeat(1025))] }],
    ['mst-bad-node', 'a field too many', { l: null, e: [], x: 1 }],
    ['mst-bad-node', 'a field too few', { e: [] }],
    ['mst-bad-node', 'an entry with a field too many', { l: null, e: [{ ...entry(0, 'a'), x: 1 }] }],
    ['mst-bad-node', 'a value that is null', { l: null, e: [{ ...entry(0, 'a'), v: null }] }],
    ['mst-bad-node', 'a key that is text', { l: null, e: [{ ...entry(0, 'a'), k: 'a' }] }],
    [
      'mst-bad-node',
      'a link to another codec',
      {
        l: null,
        e: [{ ...entry(0, 'a'), v: { $link: 'bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi' } }],
      },
    ],
    ['mst-bad-node', 'something else', { $type: 'app.bsky.feed.post' }],
    ['mst-bad-node', 'nothing', ''],
  ])('%s: %s', (reason, _, node) => {
    expect(() => parsed(encodeCbor(node))).toThrow(expect.objectContaining({ reason }))
  })

  test.each([
    ['a prefix', '617013', '61701813'],
    ['a suffix length', '616b41', '616b5801'],
    ['a number of entries', '616583', '61659803'],
    ['a prefix of one byte in two', '617013', '6170190013'],
    ['a suffix length of one byte in two', '616b41', '616b590001'],
  ])('%s in more bytes than it needs is refused', (_, short, long) => {
    const hex = encodeCbor(good).toString('hex')
    expect(hex).toContain(short)
    const block = Buffer.from(hex.replace(short, long), 'hex')
    expect(() => parsed(block)).toThrow(expect.objectContaining({ reason: 'mst-bad-node' }))
  })

  test('a byte more, a byte less, a flipped bit are refused or another node', () => {
    const block = encodeCbor(good)
    expect(() => parsed(Buffer.concat([block, Uint8Array.of(0)]))).toThrow(
      expect.objectContaining({ reason: 'mst-bad-node' }),
    )
    for (let end = 0; end < block.length; end++) {
      expect(() => parsed(block.subarray(0, end))).toThrow(expect.objectContaining({ reason: 'mst-bad-node' }))
    }
    for (let bit = 0; bit < block.length * 8; bit++) {
      const flipped = Buffer.from(block)
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      const reread = attempt(() => {
        const { keys, values, trees } = parsed(flipped)
        const cid = (at: number) => (at === -1 ? null : (flipped.toString('latin1', at, at + 36) as Cid))
        return encodeNode(
          keys,
          values.map((at) => cid(at)!),
          trees.map(cid),
        )
      })
      if (reread !== undefined) expect(reread).toEqual(flipped)
    }
  })
})

function parsed(block: Buffer): NodeView {
  return parseNode(block, 1_000_000)
}

/** What `work` gives, or undefined when it is refused by a reason of a tree. */
function attempt<T>(work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    expect((error as { reason?: string }).reason).toMatch(/^mst-/)
    return undefined
  }
}

import { BlockMap, MemoryBlockstore, MST } from '@atproto/repo'
import { cidForLex } from '@atproto/lex-cbor'
import * as fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { asBuffer } from './bytes.ts'
import { encodeCbor } from './cbor-encode.ts'
import { cidOf, formatCid, parseCid, type Cid } from './cid.ts'
import { encodeNode, heightOf, type MstRefusal } from './mst-node.ts'
import { PartialTree, type TreeChange } from './mst.ts'
import { hasInterop, interopJson } from './testing/interop.ts'
import { buildTree } from './testing/tree.ts'

const VALUE = cidOf(Buffer.from(encodeCbor({ value: 1 })))
const OTHER = cidOf(Buffer.from(encodeCbor({ value: 2 })))

type OfficialCid = Awaited<ReturnType<typeof cidForLex>>
const officialValues = new Map<Cid, OfficialCid>()
for (const [cid, value] of [
  [VALUE, 1],
  [OTHER, 2],
] as const)
  officialValues.set(cid, await cidForLex({ value }))

/** The same tree by the official library, and all its nodes. */
async function officialTree(
  values: ReadonlyMap<string, Cid>,
): Promise<{ root: string; nodes: Map<string, Uint8Array>; tree: MST }> {
  let tree = await MST.create(new MemoryBlockstore())
  for (const [key, value] of values) tree = await tree.add(key, officialValues.get(value)!)
  const { root, blocks } = await tree.getUnstoredBlocks()
  return {
    root: String(root),
    nodes: new Map([...blocks.entries()].map(({ cid, bytes }) => [String(cid), bytes])),
    tree,
  }
}

/** Keys of many layers: of random ones, 3 in 4 are of layer 0. */
const path = fc.integer({ min: 0, max: 400 }).map((n) => `com.example.record/${n.toString(36)}`)
const keySet = fc.uniqueArray(path, { maxLength: 120 })

describe('trees are those of the official library', () => {
  test('built from any keys', async () => {
    await fc.assert(
      fc.asyncProperty(keySet, async (keys) => {
        const values = new Map(keys.map((key) => [key, VALUE]))
        const built = buildTree(values)
        const official = await officialTree(values)
        expect(formatCid(built.root)).toBe(official.root)
        expect(new Set([...built.nodes.keys()].map(formatCid))).toEqual(new Set(official.nodes.keys()))
      }),
      { numRuns: 60 },
    )
  })

  test('changed by any changes, undone in any order', async () => {
    const change = fc.record({ path, toward: fc.constantFrom(VALUE, OTHER, null) })
    await fc.assert(
      fc.asyncProperty(
        keySet,
        fc.uniqueArray(change, { selector: (c) => c.path, maxLength: 12 }),
        fc.infiniteStream(fc.nat()),
        async (keys, wishes, order) => {
          const before = new Map(keys.map((key) => [key, VALUE]))
          const changes = wishes
            .map(({ path, toward }): TreeChange => ({ path, cid: toward, prev: before.get(path) ?? null }))
            .filter(({ cid, prev }) => cid !== prev)
          const after = new Map(before)
          for (const { path, cid } of changes) {
            if (cid === null) after.delete(path)
            else after.set(path, cid)
          }
          const { root, nodes } = buildTree(after)
          const tree = new PartialTree(nodes, root)
          for (const [key, value] of after) expect(tree.get(key)).toBe(value)
          const shuffled = changes
            .map((c) => ({ c, at: order.next().value }))
            .sort((a, b) => a.at - b.at)
            .map(({ c }) => c)
          for (const undone of shuffled) tree.undo(undone)
          expect(tree.root()).toBe(buildTree(before).root)
          expect(formatCid(tree.root())).toBe((await officialTree(before)).root)
          for (const { path, cid, prev } of changes) {
            expect(tree.get(path)).toBe(prev)
            if (cid !== null)
              expect(() => tree.undo({ path, cid, prev: null })).toThrow(
                expect.objectContaining({ reason: 'mst-op-mismatch' }),
              )
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  test('over the covering proof that the official library makes, any order undoes', async () => {
    const change = fc.record({ path, toward: fc.constantFrom(VALUE, OTHER, null) })
    let partial = 0
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(path, { minLength: 20, maxLength: 200 }),
        fc.uniqueArray(change, { selector: (c) => c.path, minLength: 1, maxLength: 6 }),
        fc.infiniteStream(fc.nat()),
        async (keys, wishes, order) => {
          const before = new Map(keys.map((key) => [key, VALUE]))
          const changes = wishes
            .map(({ path, toward }): TreeChange => ({ path, cid: toward, prev: before.get(path) ?? null }))
            .filter(({ cid, prev }) => cid !== prev)
          const after = new Map(before)
          for (const { path, cid } of changes) {
            if (cid === null) after.delete(path)
            else after.set(path, cid)
          }
          const { tree: official, nodes: all } = await officialTree(after)
          const proof = new BlockMap()
          for (const { path } of changes) proof.addMap(await official.getCoveringProof(path))
          const blocks = new Map(
            [...proof.entries()].map(({ cid, bytes }): [Cid, Buffer] => [parseCid(String(cid))!, asBuffer(bytes)]),
          )
          if (blocks.size < all.size) partial++
          const tree = new PartialTree(blocks, buildTree(after).root)
          const shuffled = changes
            .map((c) => ({ c, at: order.next().value }))
            .sort((a, b) => a.at - b.at)
            .map(({ c }) => c)
          for (const undone of shuffled) tree.undo(undone)
          expect(tree.root()).toBe(buildTree(before).root)
        },
      ),
      { numRuns: 150 },
    )
    expect(partial).toBeGreaterThan(50)
  })

  test('without a node that is needed, it says so; with the rest missing, it does not matter', () => {
    const values = new Map(Array.from({ length: 300 }, (_, i) => [`com.example.record/${i}`, VALUE]))
    const { root, nodes } = buildTree(values)
    const change: TreeChange = { path: 'com.example.record/new', cid: VALUE, prev: null }
    const after = buildTree(new Map([...values, [change.path, VALUE]]))
    let incomplete = 0
    for (const cid of after.nodes.keys()) {
      const blocks = new Map(after.nodes)
      blocks.delete(cid)
      const tree = new PartialTree(blocks, after.root)
      try {
        tree.undo(change)
        expect(tree.root()).toBe(root)
      } catch (error) {
        incomplete++
        expect(error).toMatchObject({ reason: 'mst-incomplete' })
      }
    }
    expect(incomplete).toBeGreaterThanOrEqual(after.nodesFor(change.path).length)
    expect(incomplete).toBeLessThan(nodes.size / 2)
  })
})

interface CommitProof {
  comment: string
  leafValue: string
  keys: string[]
  adds: string[]
  dels: string[]
  rootBeforeCommit: string
  rootAfterCommit: string
  blocksInProof: string[]
}

describe.skipIf(!hasInterop)('commit proofs of the interoperability vectors, undone in every order', () => {
  test.each(hasInterop ? (interopJson('firehose/commit-proof-fixtures.json') as CommitProof[]) : [])(
    '$comment',
    (fixture) => {
      const value = parseCid(fixture.leafValue)!
      const before = buildTree(new Map(fixture.keys.map((key) => [key, value])))
      const kept = fixture.keys.filter((key) => !fixture.dels.includes(key))
      const after = buildTree(new Map([...kept, ...fixture.adds].map((key) => [key, value])))
      expect(formatCid(before.root)).toBe(fixture.rootBeforeCommit)
      expect(formatCid(after.root)).toBe(fixture.rootAfterCommit)
      const blocks = new Map(fixture.blocksInProof.map((text) => [parseCid(text)!, after.nodes.get(parseCid(text)!)!]))
      const changes: TreeChange[] = [
        ...fixture.adds.map((path) => ({ path, cid: value, prev: null })),
        ...fixture.dels.map((path) => ({ path, cid: null, prev: value })),
      ]
      let orders = 0
      for (const order of permutations(changes)) {
        orders++
        const tree = new PartialTree(blocks, after.root)
        for (const change of order) tree.undo(change)
        expect(formatCid(tree.root())).toBe(fixture.rootBeforeCommit)
      }
      expect(orders).toBeGreaterThanOrEqual(changes.length)
    },
  )
})

function* permutations<T>(items: T[]): Generator<T[]> {
  if (items.length <= 1) yield items
  for (let i = 0; i < items.length && items.length > 1; i++) {
    for (const rest of permutations([...items.slice(0, i), ...items.slice(i + 1)])) yield [items[i]!, ...rest]
  }
}

describe('a tree that is not canonical is refused when it is loaded', () => {
  const low = ['a', 'b', 'c', 'd', 'e', 'f']
    .map((key) => `com.example.record/${key}`)
    .filter((key) => heightOf(key) === 0)
  const high = Array.from({ length: 1000 }, (_, i) => `com.example.record/h${i}`).find((key) => heightOf(key) === 1)!

  function treeOf(...nodes: Buffer[]): () => PartialTree {
    const blocks = new Map(nodes.map((node) => [cidOf(node), node]))
    return () => new PartialTree(blocks, cidOf(nodes[0]!))
  }

  const leaf = encodeNode([low[0]!], [VALUE], [null, null])
  const late = encodeNode(['com.example.record/zzz'], [VALUE], [null, null])
  const empty = encodeNode([], [], [null])
  const chain = encodeNode([], [], [cidOf(leaf)])

  test.each<[MstRefusal, string, () => PartialTree]>([
    [
      'mst-wrong-layer',
      'keys of two layers in one node',
      treeOf(encodeNode([low[0]!, high].sort(), [VALUE, VALUE], [null, null, null])),
    ],
    ['mst-wrong-layer', 'a subtree below layer 0', treeOf(encodeNode([low[1]!], [VALUE], [cidOf(leaf), null]), leaf)],
    [
      'mst-wrong-layer',
      'a key two layers down where one is right',
      treeOf(encodeNode([high], [VALUE], [cidOf(chain), null]), chain, leaf),
    ],
    [
      'mst-wrong-order',
      'keys on the wrong side of their parent',
      treeOf(encodeNode([high], [VALUE], [null, cidOf(leaf)]), leaf),
    ],
    ['mst-wrong-order', 'keys on the other wrong side', treeOf(encodeNode([high], [VALUE], [cidOf(late), null]), late)],
    [
      'mst-wrong-layer',
      'a subtree below layer 0 that is not there',
      treeOf(encodeNode([low[1]!], [VALUE], [OTHER, null])),
    ],
    [
      'mst-empty-node',
      'a node below the root with nothing in it',
      treeOf(encodeNode([high], [VALUE], [cidOf(empty), null]), empty),
    ],
    ['mst-empty-node', 'a root that only leads on', treeOf(chain, leaf)],
    ['mst-bad-node', 'a record in the place of a node', treeOf(encodeCbor({ $type: 'a.b.c' }))],
  ])('%s: %s', (reason, _, load) => {
    expect(heightOf('com.example.record/zzz')).toBe(0)
    expect(load).toThrow(expect.objectContaining({ reason }))
  })
})

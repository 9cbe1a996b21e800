/** A stranger's few bytes become many: what trees and exports may come to. */
import { describe, expect, test } from 'vitest'
import { CarStore } from './car-store.ts'
import { encodeCbor } from './cbor-encode.ts'
import { decodeItem, decodeRecord } from './cbor.ts'
import { cidOf, type Cid } from './cid.ts'
import { COMMIT_LIMITS } from './commit.ts'
import { encodeNode, heightOf } from './mst-node.ts'
import { TreeWalk } from './mst-walk.ts'
import { PartialTree } from './mst.ts'
import { EXPORT_LIMITS, readRepoExport, type ExportRefusal } from './repo-export.ts'
import { writeCar } from './testing/car-write.ts'
import { link, signedCommit, TestRepo } from './testing/repo.ts'
import { frameOf, FULL, resigned, scene } from './testing/scene.ts'
import { verifyCommit } from './testing/verify.ts'
import { populatedRepo, testDid } from './testing/world.ts'

const VALUE = cidOf(encodeCbor({ value: 1 }))
const SMALL = { bytes: 10_000_000, blocks: 100_000, blockBytes: 2_000_000 }

function refusing(reason: ExportRefusal) {
  return expect.objectContaining({ name: 'RefusedError', reason })
}

/** Keys that begin with `prefix`, of layer `height`, in order. */
function keysOf(prefix: string, height: number, count: number): string[] {
  const keys: string[] = []
  for (let i = 0; keys.length < count; i++) {
    const key = prefix + i.toString(36).padStart(4, '0')
    if (heightOf(key) === height) keys.push(key)
  }
  return keys
}

function leafOf(keys: string[], value = VALUE): Buffer {
  return encodeNode(
    keys,
    keys.map(() => value),
    Array<null>(keys.length + 1).fill(null),
  )
}

const LONG = `com.example.record/${'x'.repeat(1_000)}`
/** A block of 1.4 MB, and 28 MB of keys. */
const unfolding = leafOf(keysOf(LONG, 0, 25_000))

function treeOf(...nodes: Buffer[]): PartialTree {
  return new PartialTree(new Map(nodes.map((node): [Cid, Buffer] => [cidOf(node), node])), cidOf(nodes[0]!))
}

describe("the nodes of a commit's tree are limited in memory, all together", () => {
  test('keys that a block shortens count as they are', () => {
    expect(unfolding.length).toBeLessThan(COMMIT_LIMITS.blocksBytes)
    expect(() => treeOf(unfolding)).toThrow(refusing('mst-too-large'))
  })

  test('also when they are spread over many nodes', () => {
    const high = keysOf('com.example.record/', 1, 50)
    const leaves = high.map((key) => leafOf(keysOf(`${key}${'x'.repeat(990)}`, 0, 500)))
    const root = encodeNode(
      high,
      high.map(() => VALUE),
      [null, ...leaves.map(cidOf)],
    )
    expect(leaves.reduce((sum, { length }) => sum + length, root.length)).toBeLessThan(COMMIT_LIMITS.blocksBytes)
    expect(() => treeOf(root, ...leaves)).toThrow(refusing('mst-too-large'))
    expect(() => treeOf(root, ...leaves.slice(0, 5))).not.toThrow()
  })

  test('a node counts as often as there are ways to it', () => {
    const keyless = encodeNode([], [], [VALUE]) // leads to a node that is not there
    const high = keysOf(`com.example.record/${'x'.repeat(50)}`, 2, 20_000)
    const root = encodeNode(
      high,
      high.map(() => VALUE),
      [null, ...high.map(() => cidOf(keyless))],
    )
    expect(root.length).toBeLessThan(COMMIT_LIMITS.blocksBytes)
    expect(() => treeOf(root, keyless)).toThrow(refusing('mst-too-large'))
    expect(() => treeOf(root)).not.toThrow()
  })

  test('as many nodes as a commit may have, with keys of 100 bytes, are taken', () => {
    const keys = keysOf(`com.example.record/${'x'.repeat(77)}`, 0, 35_500)
    expect(keys[0]).toHaveLength(100)
    const root = leafOf(keys)
    expect(root.length).toBeGreaterThan(0.95 * COMMIT_LIMITS.blocksBytes)
    expect(treeOf(root).get(keys[0]!)).toBe(VALUE)
  })

  test('a commit of such a tree is refused as that', () => {
    const s = scene()
    s.made.blocks.set(cidOf(unfolding), unfolding)
    const body = resigned(s, { data: link(cidOf(unfolding)) })
    const verdict = verifyCommit(frameOf(body), s.state, s.repo.key.did, FULL)
    expect(verdict).toMatchObject({ kind: 'refused', reason: 'mst-too-large' })
  })
})

const repo = populatedRepo('unfolding', 200)

describe('the nodes that a walk holds at once are limited in memory', () => {
  test('keys that a block shortens count as they are', async () => {
    const root = leafOf(keysOf(LONG, 0, 25_000), [...repo.records.values()][0]!.cid)
    const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(cidOf(root)) }
    const commit = signedCommit(repo.key, unsigned)
    const car = writeCar(cidOf(commit), [[cidOf(commit), commit], [cidOf(root), root], ...repo.blocks()])
    const read = readRepoExport([car], { did: repo.did, signingKey: repo.key.did }, { limits: EXPORT_LIMITS })
    await expect(read).rejects.toThrow(refusing('mst-too-large'))
  })

  test('a node that was left counts no more', () => {
    const walked = (pathBytes: number): number => {
      using store = new CarStore(SMALL)
      store.push(repo.export())
      const walk = new TreeWalk(store, store.findCid(repo.data), { check: true, pathBytes })
      let keys = 0
      while (walk.advance()) keys++
      return keys
    }
    // All nodes together take 200 · (128 + 38) bytes and more.
    expect(walked(15_000)).toBe(200)
    expect(() => walked(1_000)).toThrow(refusing('mst-too-large'))
  })
})

describe('keys and records of an export are limited', () => {
  /** A repository in which `count` keys lead to one record, with `more` beside it that nothing leads to. */
  function repeating(count: number, recordBytes: number, more: Buffer[] = []) {
    const repo = new TestRepo(testDid('one for all'))
    const block = encodeCbor({ same: 'x'.repeat(recordBytes) })
    for (let i = 0; i < count; i++) repo.records.set(`com.example.record/${i}`, { cid: cidOf(block), block })
    repo.write([])
    const strangers = more.map((block): [Cid, Buffer] => [cidOf(block), block])
    const car = writeCar(repo.commit!, new Map([...repo.blocks(), ...strangers]))
    const read = (limits = EXPORT_LIMITS) =>
      readRepoExport([car], { did: repo.did, signingKey: repo.key.did }, { limits })
    return { car, read }
  }

  test('by the limit of the CAR: many keys of one record cannot unfold beyond it', async () => {
    const limits = { ...SMALL, bytes: 1_000_000 }
    const many = repeating(100, 50_000)
    expect(many.car.length).toBeLessThan(100_000)
    await expect(many.read(limits)).rejects.toThrow(refusing('car-too-large'))
    expect((await repeating(19, 50_000).read(limits)).recordCount).toBe(19)
  })

  test('by what came: 300 keys of one record are no 300 MB', async () => {
    const many = repeating(300, 990_000)
    expect(many.car.length).toBeLessThan(1_100_000)
    await expect(many.read()).rejects.toThrow(refusing('car-too-large'))
    expect((await repeating(30, 990_000).read()).recordCount).toBe(30)
  })

  test('by what came: the more that is, the more they may be', async () => {
    const more = Array.from({ length: 5 }, (_, i) => encodeCbor({ i, text: 'y'.repeat(900_000) }))
    await expect(repeating(70, 990_000).read()).rejects.toThrow(refusing('car-too-large'))
    expect((await repeating(70, 990_000, more).read()).recordCount).toBe(70)
  })
})

describe('of what is wrong only the beginning is told', () => {
  const LONG_TEXT = 'x'.repeat(100_000)
  const messageOf = (work: () => unknown): string => {
    try {
      work()
    } catch (error) {
      return (error as Error).message
    }
    throw new Error('nothing is wrong')
  }

  test.each([
    ['whose account it is', { did: LONG_TEXT }],
    ['a rev', { rev: LONG_TEXT }],
    ['a version', { version: [LONG_TEXT] }],
  ])('%s', async (_, contents) => {
    const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(repo.data), ...contents }
    const commit = signedCommit(repo.key, unsigned)
    const read = readRepoExport([writeCar(cidOf(commit), [[cidOf(commit), commit]])], {
      did: repo.did,
      signingKey: repo.key.did,
    })
    await expect(read).rejects.toThrow(/^.{10,300}$/)
  })

  test('a path that an op names', () => {
    for (const [cid, prev] of [
      [VALUE, null],
      [VALUE, VALUE],
      [null, null],
    ] as const) {
      const tree = treeOf(leafOf(keysOf('com.example.record/', 0, 5)))
      expect(messageOf(() => tree.undo({ path: LONG_TEXT, cid, prev }))).toMatch(/^mst-op-mismatch.{10,300}$/)
    }
  })

  test('a key of a frame that is there twice, and a type that is none', () => {
    const key = encodeCbor(LONG_TEXT)
    const twice = Buffer.concat([Buffer.of(0xa2), key, Buffer.of(1), key, Buffer.of(2)])
    expect(messageOf(() => decodeItem(twice, 0))).toMatch(/^cbor-not-canonical.{10,300}$/)
    expect(messageOf(() => decodeRecord(encodeCbor({ $type: [LONG_TEXT] })))).toMatch(/^cbor-bad-type.{10,300}$/)
  })
})

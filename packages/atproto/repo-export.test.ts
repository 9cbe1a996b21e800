import { verifyRepoCar } from '@atproto/repo'
import { describe, expect, test } from 'vitest'
import { CarStore } from './car-store.ts'
import { encodeCbor } from './cbor-encode.ts'
import { cidOf, formatCid, parseCid, type Cid } from './cid.ts'
import { encodeNode, heightOf } from './mst-node.ts'
import { readRepoExport, verifyExport, EXPORT_LIMITS, type ExportedRecord, type ExportRefusal } from './repo-export.ts'
import { writeCar } from './testing/car-write.ts'
import { highS, testKey } from './testing/keys.ts'
import { random } from './testing/random.ts'
import { link, signedCommit, TestRepo } from './testing/repo.ts'
import { buildTree } from './testing/tree.ts'
import { populatedRepo, testDid } from './testing/world.ts'

const SMALL = { bytes: 10_000_000, blocks: 100_000, blockBytes: 2_000_000 }

async function read(
  car: Uint8Array,
  repo: TestRepo,
  expected: { did?: string; signingKey?: string } = {},
  limits = SMALL,
) {
  const source = Array.from({ length: Math.ceil(car.length / 1000) }, (_, i) => car.subarray(i * 1000, (i + 1) * 1000))
  return readRepoExport(source, { did: repo.did, signingKey: repo.key.did, ...expected }, { limits })
}

function refusing(reason: ExportRefusal) {
  return expect.objectContaining({ name: 'RefusedError', reason })
}

const repo = populatedRepo('export test', 200)

describe('a whole export is its records, in key order', () => {
  test('as the official library reads it', async () => {
    const car = repo.export()
    const result = await read(car, repo)
    expect(result).toMatchObject({
      did: repo.did,
      rev: repo.rev,
      commit: formatCid(repo.commit!),
      data: repo.data,
      recordCount: 200,
    })
    const records = [...result.records()]
    const paths = records.map(({ path }) => path)
    expect(paths).toEqual([...repo.records.keys()].sort())
    const official = await verifyRepoCar(car, repo.did, repo.key.did)
    expect(records.map(({ path, cid }) => `${path} ${cid}`)).toEqual(
      official.creates.map(({ collection, rkey, cid }) => `${collection}/${rkey} ${String(cid)}`).sort(),
    )
    for (const record of records) {
      if ('refused' in record) throw new Error(record.refused)
      expect(formatCid(cidOf(encodeCbor(record.record)))).toBe(record.cid)
    }
    expect([...result.records()]).toEqual(records)
  })

  test('of no records at all', async () => {
    const empty = new TestRepo(testDid('empty'))
    const result = await read(empty.export(), empty)
    expect(result.recordCount).toBe(0)
    expect([...result.records()]).toEqual([])
  })

  test('with its blocks in any order, twice, and with others among them', async () => {
    const draw = random('any order')
    const stray = encodeCbor({ stray: true })
    const blocks = [...repo.blocks(), ...repo.blocks(), [cidOf(stray), stray] as [Cid, Buffer]]
    const shuffled = blocks
      .map((block) => ({ block, at: draw.below(1e9) }))
      .sort((a, b) => a.at - b.at)
      .map(({ block }) => block)
    expect((await read(writeCar(repo.commit!, shuffled), repo)).recordCount).toBe(200)
  })

  test('with one record in two places', async () => {
    const twice = new TestRepo(testDid('twice'))
    twice.write(['a', 'b', 'c'].map((rkey) => ({ path: `com.example.record/${rkey}`, record: { same: true } })))
    expect([...(await read(twice.export(), twice)).records()]).toHaveLength(3)
  })

  test('a record that cannot be carried is told by its reason, among the others', async () => {
    const odd = new TestRepo(testDid('odd'))
    odd.write([
      { path: 'com.example.record/a', record: { good: 1 } },
      { path: 'com.example.record/b', record: { big: 'x'.repeat(1_000_001) } },
      { path: 'no collection/c', record: { good: 1 } },
      { path: 'com.example.record/z', record: { good: 2 } },
    ])
    const float = Buffer.from('a16161fb3ff8000000000000', 'hex')
    odd.records.set('com.example.record/f', { cid: cidOf(float), block: float })
    odd.write([])
    const records = [...(await read(odd.export(), odd)).records()]
    const reasons = records.map((record: ExportedRecord) => [
      record.path,
      'refused' in record ? record.refused : 'good',
    ])
    expect(reasons).toEqual([
      ['com.example.record/a', 'good'],
      ['com.example.record/b', 'op-record-too-large'],
      ['com.example.record/f', 'cbor-float'],
      ['com.example.record/z', 'good'],
      ['no collection/c', 'op-bad-path'],
    ])
  })
})

describe('an export that is not whole is refused, and yields nothing', () => {
  test('cut anywhere, on a block boundary or not', async () => {
    const small = populatedRepo('cut', 12)
    const car = small.export()
    const reasons = new Map<string, number>()
    for (let end = 0; end < car.length; end++) {
      const error = await read(car.subarray(0, end), small).then(
        () => undefined,
        (error: unknown) => error as { reason: string },
      )
      expect(error, `cut at ${end}`).toBeDefined()
      reasons.set(error!.reason, (reasons.get(error!.reason) ?? 0) + 1)
    }
    const boundaries = small.blocks().length
    const onBoundaries = (reasons.get('mst-incomplete') ?? 0) + (reasons.get('export-no-commit') ?? 0)
    expect(onBoundaries).toBe(boundaries) // one for each number of blocks less than all
    expect(reasons.get('export-no-commit')).toBe(1)
    expect(reasons.get('car-truncated')).toBe(car.length - boundaries)
  })

  test('without any one of its blocks', async () => {
    const small = populatedRepo('without', 30)
    const blocks = small.blocks()
    for (const missing of blocks) {
      const car = writeCar(
        small.commit!,
        blocks.filter((block) => block !== missing),
      )
      const reason = missing[0] === small.commit ? 'export-no-commit' : 'mst-incomplete'
      await expect(read(car, small)).rejects.toThrow(refusing(reason))
    }
  })
})

describe('an export that is not true is refused by name', () => {
  /** The repository's export with another commit on top. */
  function committed(
    contents: Record<string, unknown>,
    key = repo.key,
    blocks: Iterable<readonly [Cid, Uint8Array]> = repo.blocks(),
  ): Buffer {
    const block = signedCommit(key, {
      did: repo.did,
      version: 3,
      rev: repo.rev,
      prev: null,
      data: link(repo.data),
      ...contents,
    })
    return writeCar(cidOf(block), [[cidOf(block), block], ...blocks])
  }

  test.each<[ExportRefusal, string, () => Buffer]>([
    ['export-wrong-did', 'of another account', () => committed({ did: testDid('another') })],
    ['export-bad-rev', 'with a rev that is no TID', () => committed({ rev: 'latest' })],
    ['export-bad-signature', 'signed by another', () => committed({}, testKey('another'))],
    ['commit-wrong-version', 'of version 2', () => committed({ version: 2 })],
    ['commit-bad-block', 'with a root that is no commit', () => writeCar(repo.data, repo.blocks())],
    [
      'mst-incomplete',
      'of a tree that is not there',
      () => committed({ data: { $link: 'bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a' } }),
    ],
    ['mst-bad-node', 'of a tree that is a record', () => committed({ data: link([...repo.records.values()][0]!.cid) })],
    ['car-wrong-hash', 'with a changed block', () => changed(repo.export())],
    ['car-bad-header', 'that is an error page', () => Buffer.from('\x0e<!doctype html><p>no')],
    ['car-truncated', 'that is nothing', () => Buffer.alloc(0)],
  ])('%s: %s', async (reason, _, make) => {
    await expect(read(make(), repo)).rejects.toThrow(
      reason === 'car-bad-header'
        ? expect.objectContaining({ reason: expect.stringMatching(/^(car|cbor)-/) })
        : refusing(reason),
    )
  })

  test('a commit whose signature has a high S is refused', async () => {
    const unsigned = { did: repo.did, version: 3, rev: repo.rev, prev: null, data: link(repo.data) }
    const block = encodeCbor({ ...unsigned, sig: highS(repo.key.sign(encodeCbor(unsigned)), repo.key.curve) })
    await expect(read(writeCar(cidOf(block), [[cidOf(block), block], ...repo.blocks()]), repo)).rejects.toThrow(
      refusing('export-bad-signature'),
    )
  })

  const value = [...repo.records.values()][0]!.cid
  const keysOf = (height: number) =>
    Array.from({ length: 2000 }, (_, i) => `com.example.record/k${i}`)
      .filter((key) => heightOf(key) === height)
      .sort()
  const [a, b] = keysOf(0) as [string, string]
  const high = keysOf(1)[0]!
  const NOBODY = parseCid('bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a')!
  const leaf = encodeNode([a], [value], [null, null])
  const late = encodeNode(['com.example.record/zzz'], [value], [null, null])
  const empty = encodeNode([], [], [null])

  test.each<[ExportRefusal, string, Buffer[]]>([
    [
      'mst-wrong-layer',
      'keys of two layers in one node',
      [encodeNode([a, high].sort(), [value, value], [null, null, null])],
    ],
    ['mst-wrong-layer', 'a subtree below layer 0', [encodeNode([b], [value], [cidOf(leaf), null]), leaf]],
    ['mst-wrong-layer', 'a subtree below layer 0 that is not there', [encodeNode([b], [value], [NOBODY, null])]],
    ['mst-wrong-order', 'keys on the wrong side', [encodeNode([high], [value], [cidOf(late), null]), late]],
    ['mst-wrong-order', 'the same keys twice', [encodeNode([high], [value], [cidOf(leaf), cidOf(leaf)]), leaf]],
    ['mst-empty-node', 'a node with nothing in it', [encodeNode([high], [value], [null, cidOf(empty)]), empty]],
    ['mst-empty-node', 'a root that only leads on', [encodeNode([], [], [cidOf(leaf)]), leaf]],
  ])('%s: %s', async (reason, _, nodes) => {
    const blocks = nodes.map((node) => [cidOf(node), node] as const)
    await expect(
      read(committed({ data: link(blocks[0]![0]) }, repo.key, [...blocks, ...repo.blocks()]), repo),
    ).rejects.toThrow(refusing(reason))
  })

  test('a CAR beyond any of its limits is refused: bytes, blocks, bytes of a block', async () => {
    const car = repo.export()
    await expect(read(car, repo, {}, { ...SMALL, bytes: car.length - 1 })).rejects.toThrow(refusing('car-too-large'))
    await expect(read(car, repo, {}, { ...SMALL, blocks: 10 })).rejects.toThrow(refusing('car-too-many-blocks'))
    await expect(read(car, repo, {}, { ...SMALL, blockBytes: 10 })).rejects.toThrow(refusing('car-block-too-large'))
  })
})

test('an aborted verification stops', async () => {
  const large = new TestRepo(testDid('large'))
  const values = new Map(
    Array.from({ length: 20_000 }, (_, i) => [`com.example.record/${i}`, cidOf(encodeCbor({ same: true }))]),
  )
  large.tree = buildTree(values)
  const store = new CarStore(EXPORT_LIMITS)
  const block = encodeCbor({ same: true })
  const commit = signedCommit(large.key, {
    did: large.did,
    version: 3,
    rev: '3aaaaaaaaaaaa',
    prev: null,
    data: link(large.tree.root),
  })
  store.push(writeCar(cidOf(commit), [[cidOf(commit), commit], ...large.tree.nodes, [cidOf(block), block]]))
  const abort = new AbortController()
  const verified = verifyExport(store, { did: large.did, signingKey: large.key.did }, abort.signal)
  abort.abort(new Error('enough'))
  await expect(verified).rejects.toThrow('enough')
})

function changed(car: Buffer): Buffer {
  const copy = Buffer.from(car)
  copy[copy.length - 1]! ^= 1
  return copy
}

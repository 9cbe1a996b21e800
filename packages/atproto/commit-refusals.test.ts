import { describe, expect, test } from 'vitest'
import { encodeCbor } from './cbor-encode.ts'
import { cidOf } from './cid.ts'
import type { CommitRefusal } from './commit.ts'
import { encodeNode } from './mst-node.ts'
import { writeCar } from './testing/car-write.ts'
import { highS, testKey } from './testing/keys.ts'
import { link, TestRepo, type CommitBody } from './testing/repo.ts'
import { frameOf, FULL, NOW, POST, resigned, scene, withBlocks, withCommit, type Scene } from './testing/scene.ts'
import { verifyCommit } from './testing/verify.ts'
import { testDid } from './testing/world.ts'

describe('what is wrong is refused, each by its own name', () => {
  const cases: [CommitRefusal, string, (s: Scene) => object][] = [
    ['bad-did', 'no DID', ({ made }) => ({ ...made.body, repo: 'did:plc:' })],
    ['bad-rev', 'no TID', ({ made }) => ({ ...made.body, rev: 'zzzzzzzzzzzzz' })],
    ['bad-rev', 'a since that is no TID', ({ made }) => ({ ...made.body, since: 'x' })],
    ['future-rev', 'six minutes ahead', () => aheadBy(6 * 60_000).body],
    ['frame-too-large', '5 MB and a byte', ({ made }) => ({ ...made.body, blobs: ['x'.repeat(5_000_000)] })],
    ['blocks-too-large', '2 MB and a byte', ({ made }) => ({ ...made.body, blocks: Buffer.alloc(2_000_001) })],
    [
      'too-many-ops',
      '201',
      ({ made }) => ({
        ...made.body,
        ops: Array.from({ length: 201 }, (_, i) => ({ ...made.body.ops[0], path: `app.bsky.feed.post/${i}` })),
      }),
    ],
    [
      'duplicate-path',
      'two ops on one path',
      ({ made }) => ({ ...made.body, ops: [made.body.ops[0], made.body.ops[0]] }),
    ],
    [
      'bad-op',
      'an action that nobody knows',
      ({ made }) => ({ ...made.body, ops: [{ ...made.body.ops[0], action: 'move' }] }),
    ],
    [
      'bad-op',
      'a delete that has a record',
      ({ made }) => ({ ...made.body, ops: [{ ...made.body.ops[0], action: 'delete' }] }),
    ],
    [
      'bad-op',
      'a create without a record',
      ({ made }) => ({ ...made.body, ops: [{ ...made.body.ops[0], cid: null }] }),
    ],
    [
      'bad-op',
      'a create of what was there',
      ({ made }) => ({ ...made.body, ops: [{ ...made.body.ops[0], prev: made.body.ops[0]!.cid }] }),
    ],
    ['bad-op', 'an update that leaves no record', updatesToNothing],
    ['records-too-large', '3 ops that name one record of 700 kB', writesOneThrice],
    ['car-truncated', 'a CAR cut short', ({ made }) => ({ ...made.body, blocks: made.body.blocks.subarray(0, -1) })],
    [
      'car-wrong-hash',
      'a block that was changed',
      ({ made }) => ({ ...made.body, blocks: changedAt(made.body.blocks, -1) }),
    ],
    ['car-bad-header', 'no CAR', ({ made }) => ({ ...made.body, blocks: Uint8Array.of(1, 0xa0) })],
    ['wrong-root', 'the CAR of another commit', ({ made, repo }) => ({ ...made.body, commit: link(repo.data) })],
    ['no-commit-block', 'a CAR without the commit', (s) => withBlocks(s, (blocks) => blocks.delete(s.repo.commit!))],
    [
      'commit-bad-block',
      'a node in the place of the commit',
      ({ made, repo }) => ({ ...made.body, commit: link(repo.data), blocks: writeCar(repo.data, made.blocks) }),
    ],
    [
      'commit-bad-block',
      'a commit without signature',
      (s) =>
        withCommit(
          s,
          Buffer.from(
            encodeCbor({ did: s.repo.did, version: 3, rev: s.repo.rev, prev: null, data: link(s.repo.data) }),
          ),
        ),
    ],
    [
      'commit-bad-block',
      'bytes after the commit, signed with it',
      (s) => {
        const unsigned = { did: s.repo.did, version: 3, rev: s.repo.rev, prev: null, data: link(s.repo.data) }
        const [more, key] = [Buffer.of(0xf6), s.repo.key]
        const sig = key.sign(Buffer.concat([encodeCbor(unsigned), more]))
        return withCommit(s, Buffer.concat([encodeCbor({ ...unsigned, sig }), more]))
      },
    ],
    ['commit-bad-block', 'more fields than one byte counts', (s) => resigned(s, fields(18))],
    ['commit-bad-block', 'a signature with a head of five bytes', (s) => withSignature(s, 0x10000)],
    ['commit-wrong-version', 'version 2', (s) => resigned(s, { version: 2 })],
    ['wrong-did', 'signed for another account', (s) => resigned(s, { did: testDid('another') })],
    ['wrong-rev', 'signed as another rev', (s) => resigned(s, { rev: '3aaaaaaaaaaaa' })],
    ['bad-signature', 'signed by another key', (s) => resigned(s, {}, testKey('somebody else'))],
    ['bad-signature', 'a high S', (s) => highSigned(s)],
    [
      'inversion-mismatch',
      'a prevData that is not the tree before',
      ({ made, repo }) => ({ ...made.body, prevData: link(repo.data) }),
    ],
    ['inversion-mismatch', 'an op that is not told', ({ made }) => ({ ...made.body, ops: [] })],
    [
      'mst-op-mismatch',
      'an op that did not happen',
      ({ made }) => ({ ...made.body, ops: [{ ...made.body.ops[0], path: 'app.bsky.feed.post/3kaaaaaaaaaa3' }] }),
    ],
    [
      'mst-op-mismatch',
      'another record than in the tree',
      ({ made, repo }) => ({ ...made.body, ops: [{ ...made.body.ops[0], cid: link(repo.data) }] }),
    ],
    ['mst-op-mismatch', 'a delete of what is still there', deletesWhatStays],
    ['mst-op-mismatch', 'an update to another record than in the tree', updatesOtherwise],
    ['mst-bad-node', 'a tree that is none', (s) => resignedTree(s, Buffer.from(encodeCbor({ x: 1 })))],
    [
      'mst-not-canonical',
      'a node not in its one form',
      (s) =>
        resignedTree(
          s,
          Buffer.from(
            encodeCbor({
              l: null,
              e: ['ab', 'ac'].map((key) => ({ p: 0, k: Buffer.from(key), v: link(s.repo.data), t: null })),
            }),
          ),
        ),
    ],
    [
      'mst-wrong-layer',
      'keys of several layers in one node',
      (s) =>
        resignedTree(
          s,
          encodeNode(
            [...s.repo.records.keys()].sort(),
            [...s.repo.records.keys()].map(() => s.repo.data),
            [null, ...[...s.repo.records.keys()].map(() => null)],
          ),
        ),
    ],
    ['mst-empty-node', 'a root that only leads on', (s) => resignedTree(s, encodeNode([], [], [s.repo.data]))],
  ]

  test.each(cases)('%s: %s', (reason, _, make) => {
    const s = scene()
    expect(verifyCommit(frameOf(make(s)), s.state, s.repo.key.did, FULL)).toMatchObject({ kind: 'refused', reason })
  })

  test('every check that needs no key works without one', () => {
    for (const [reason, , make] of cases.filter(([reason]) => reason !== 'bad-signature')) {
      const s = scene()
      expect(verifyCommit(frameOf(make(s)), s.state, '', { level: 'proof', nowMs: NOW })).toMatchObject({
        kind: 'refused',
        reason,
      })
    }
  })

  test('an account without a key has no true commits', () => {
    const s = scene()
    const verdict = verifyCommit(frameOf(s.made.body), s.state, undefined, FULL)
    expect(verdict).toMatchObject({ kind: 'refused', reason: 'no-signing-key' })
  })

  test('a key that nobody can check with is refused as that', () => {
    const s = scene()
    expect(verifyCommit(frameOf(s.made.body), s.state, 'did:key:zNonsense', FULL)).toMatchObject({
      kind: 'refused',
      reason: 'key-unsupported',
    })
  })

  test('a rev is of the future when it is more than five minutes ahead', () => {
    const checked = (ms: number): unknown => {
      const { body, repo } = aheadBy(ms)
      return verifyCommit(frameOf(body), null, repo.key.did, FULL)
    }
    expect(checked(300_000)).toMatchObject({ kind: 'base' })
    expect(checked(300_001)).toMatchObject({ kind: 'refused', reason: 'future-rev' })
  })
})

test('the signature is over all other fields, as many as one byte counts', () => {
  const s = scene()
  expect(verifyCommit(frameOf(resigned(s, fields(17))), s.state, s.repo.key.did, FULL)).toMatchObject({
    kind: 'apply',
    proof: 'complete',
  })
})

test.each([0, 23, 24, 63, 65, 255, 256, 65_535])('a signature of %i bytes is none', (length) => {
  const s = scene()
  expect(verifyCommit(frameOf(withSignature(s, length)), s.state, s.repo.key.did, FULL)).toMatchObject({
    kind: 'refused',
    reason: 'bad-signature',
  })
})

/** So many fields that a commit need not have. */
function fields(count: number): Record<string, number> {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`x${i}`, i]))
}

/** The commit with a signature of so many bytes. */
function withSignature(s: Scene, bytes: number): CommitBody {
  const { did, rev, data } = s.repo
  const signed = { did, version: 3, rev, prev: null, data: link(data), sig: Buffer.alloc(bytes, 1) }
  return withCommit(s, encodeCbor(signed))
}

/** A true deletion whose op says that it is an update. */
function updatesToNothing(s: Scene): CommitBody {
  const { path } = s.made.body.ops[0]!
  Object.assign(s.state, { rev: s.repo.rev, data: s.repo.data })
  s.made = s.repo.write([{ path, record: null }])
  return { ...s.made.body, ops: [{ ...s.made.body.ops[0]!, action: 'update' }] }
}

/** An update whose path is in the tree with another value than the op states. */
function updatesOtherwise(s: Scene): CommitBody {
  const { path } = s.made.body.ops[0]!
  s.state.rev = s.repo.rev
  s.state.data = s.repo.data
  s.made = s.repo.write([{ path, record: { ...POST, text: 'changed' } }])
  return { ...s.made.body, ops: [{ ...s.made.body.ops[0]!, cid: link(s.state.data) }] }
}

function writesOneThrice({ repo, state }: Scene): CommitBody {
  Object.assign(state, { rev: repo.rev, data: repo.data })
  const record = { ...POST, text: 'x'.repeat(700_000) }
  return repo.write(['a', 'b', 'c'].map((rkey) => ({ path: `app.bsky.feed.post/${rkey}`, record }))).body
}

/**
 * A delete of a record that is still in the tree. All nodes are present, so the refusal cannot be for an incomplete
 * proof.
 */
function deletesWhatStays(s: Scene): CommitBody {
  const path = [...s.repo.records.keys()].find((other) => other !== s.made.body.ops[0]!.path)!
  const body = withBlocks(s, (blocks) => s.repo.tree.nodes.forEach((node, cid) => blocks.set(cid, node)))
  return { ...body, ops: [...body.ops, { action: 'delete', path, cid: null, prev: link(s.repo.data) }] }
}

function aheadBy(ms: number): { body: CommitBody; repo: TestRepo } {
  const repo = new TestRepo(testDid('future'), { startMs: NOW + ms - 1_000 })
  return { body: repo.write([{ path: 'app.bsky.feed.post/3k', record: POST }]).body, repo }
}

function changedAt(bytes: Uint8Array, at: number): Buffer {
  const changed = Buffer.from(bytes)
  changed[at < 0 ? changed.length + at : at]! ^= 1
  return changed
}

/** The commit with the high S of its signature. */
function highSigned(s: Scene): CommitBody {
  const block = s.made.blocks.get(s.repo.commit!)!
  const unsigned = { did: s.repo.did, version: 3, rev: s.repo.rev, prev: null, data: link(s.repo.data) }
  const sig = highS(s.repo.key.sign(encodeCbor(unsigned)), s.repo.key.curve)
  const changed = Buffer.from(encodeCbor({ ...unsigned, sig }))
  expect(changed).not.toEqual(block)
  return withCommit(s, changed)
}

/** A properly signed commit whose tree is one given node. */
function resignedTree(s: Scene, node: Buffer): CommitBody {
  const root = cidOf(node)
  s.made.blocks.set(root, node)
  return resigned(s, { data: link(root) })
}

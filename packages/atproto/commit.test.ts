import { describe, expect, test } from 'vitest'
import { readCar } from './car.ts'
import type { ChainState } from './chain.ts'
import type { VerifyLevel } from './commit.ts'
import { decodeFrame, type CommitFrame } from './frame.ts'
import { writeCar } from './testing/car-write.ts'
import { testKey } from './testing/keys.ts'
import { link, TestRepo, type CommitBody, type Made } from './testing/repo.ts'
import { frameOf, FULL, NOW, POST, scene, withBlocks, type Scene } from './testing/scene.ts'
import { verifyCommit } from './testing/verify.ts'
import { populatedRepo, testDid, traffic } from './testing/world.ts'

describe('a true commit that follows is applied', () => {
  test('weeks of traffic, in order, at each level', () => {
    for (const level of ['full', 'proof', 'off'] as VerifyLevel[]) {
      const repo = populatedRepo(`traffic ${level}`, 60)
      let state: ChainState = { rev: repo.rev, data: repo.data }
      const deletes = new Set<string>()
      for (const { bytes, body } of traffic(repo, 'traffic', 80)) {
        const verdict = verifyCommit(decodeFrame(bytes) as CommitFrame, state, repo.key.did, { level, nowMs: NOW })
        expect(verdict).toMatchObject({ kind: 'apply', proof: level === 'off' ? 'unchecked' : 'complete' })
        if (verdict.kind === 'apply') state = verdict.state
        for (const { action } of body.ops) deletes.add(action)
      }
      expect(state).toEqual({ rev: repo.rev, data: repo.data })
      expect([...deletes].sort()).toEqual(['create', 'delete', 'update'])
    }
  })

  test.each(['k256', 'p256'] as const)('signed with %s', (curve) => {
    const repo = new TestRepo(testDid(curve), { key: testKey(curve, curve) })
    const { bytes } = repo.write([{ path: 'app.bsky.feed.post/3k', record: POST }])
    expect(verifyCommit(decodeFrame(bytes) as CommitFrame, null, repo.key.did, FULL)).toMatchObject({
      kind: 'base',
      proof: 'complete',
    })
  })

  test('the first commit of an unknown repository is its base; an empty one too', () => {
    const repo = new TestRepo(testDid('new'))
    const first = verifyCommit(frameOf(repo.write([]).body), null, repo.key.did, FULL)
    expect(first).toMatchObject({ kind: 'base', state: { rev: repo.rev, data: repo.data } })
    const before = { rev: repo.rev, data: repo.data }
    const second = repo.write([{ path: 'app.bsky.feed.post/3k', record: POST }])
    expect(verifyCommit(frameOf(second.body), before, repo.key.did, FULL)).toMatchObject({
      kind: 'apply',
      proof: 'complete',
    })
  })

  test('a first commit may say that the tree before it was empty; one that says otherwise is no beginning', () => {
    const repo = new TestRepo(testDid('beginnings'))
    const empty = link(repo.data)
    const { body } = repo.write([{ path: 'app.bsky.feed.post/3k', record: POST }])
    expect(verifyCommit(frameOf({ ...body, prevData: empty }), null, repo.key.did, FULL)).toMatchObject({
      kind: 'base',
    })
    const later = { ...repo.write([{ path: 'app.bsky.feed.post/3l', record: POST }]).body, since: null }
    const gap = { kind: 'gap', cause: 'unknown', proof: 'complete' }
    expect(verifyCommit(frameOf(later), null, repo.key.did, FULL)).toMatchObject(gap)
    const hiding = { kind: 'refused', reason: 'inversion-mismatch' }
    expect(verifyCommit(frameOf({ ...later, prevData: undefined }), null, repo.key.did, FULL)).toMatchObject(hiding)
    const unproven = withoutTree(repo, { ...later, prevData: undefined })
    expect(verifyCommit(frameOf(unproven), null, repo.key.did, FULL)).toMatchObject({
      kind: 'gap',
      cause: 'unknown',
      proof: 'incomplete',
    })
  })

  test('an empty commit moves the rev, even if it carries nothing but itself', () => {
    const { repo } = scene()
    const state = { rev: repo.rev, data: repo.data }
    const empty = repo.write([])
    const alone = { ...empty.body, blocks: writeCar(repo.commit!, [[repo.commit!, empty.blocks.get(repo.commit!)!]]) }
    expect(verifyCommit(frameOf(alone), state, repo.key.did, FULL)).toMatchObject({
      kind: 'apply',
      proof: 'complete',
      state: { rev: repo.rev, data: state.data },
    })
  })

  test('the last record of a repository can go, and the first come again', () => {
    const repo = new TestRepo(testDid('one'))
    repo.write([{ path: 'app.bsky.feed.post/3k', record: POST }])
    for (const record of [null, POST]) {
      const state = { rev: repo.rev, data: repo.data }
      const { body } = repo.write([{ path: 'app.bsky.feed.post/3k', record }])
      expect(verifyCommit(frameOf(body), state, repo.key.did, FULL)).toMatchObject({ kind: 'apply', proof: 'complete' })
    }
  })

  test('200 ops are allowed', () => {
    const repo = new TestRepo(testDid('many'))
    const { body } = repo.write(
      Array.from({ length: 200 }, (_, i) => ({ path: `app.bsky.feed.post/${i}`, record: POST })),
    )
    expect(verifyCommit(frameOf(body), null, repo.key.did, FULL)).toMatchObject({ kind: 'base', proof: 'complete' })
  })

  test('a path that no collection has is a matter of its op, not of the commit', () => {
    const repo = populatedRepo('bad path', 50)
    const state = { rev: repo.rev, data: repo.data }
    const { body } = repo.write(['not an nsid/3k', 'app.bsky.feed.post/3kgood'].map((path) => ({ path, record: POST })))
    expect(verifyCommit(frameOf(body), state, repo.key.did, FULL)).toMatchObject({ kind: 'apply', proof: 'complete' })
  })
})

test('a commit of no newer rev is a duplicate, whatever else is wrong with it', () => {
  const { made, state } = scene()
  for (const rev of [state.rev, '2222222222222']) {
    expect(verifyCommit(frameOf({ ...made.body, rev, blocks: Buffer.alloc(1) }), state, 'x', FULL)).toEqual({
      kind: 'duplicate',
    })
  }
})

describe('a true commit that does not follow is a gap, with its cause and the state after it', () => {
  const cases: [string, (s: Scene) => { body: CommitBody; state: ChainState | null; cause: string }][] = [
    ['of a repository that we know nothing of', ({ made }) => ({ body: made.body, state: null, cause: 'unknown' })],
    [
      'after one that we missed',
      ({ made, state }) => ({ body: made.body, state: { ...state, rev: '3aaaaaaaaaaaa' }, cause: 'since' }),
    ],
    [
      'after one that is not ours',
      ({ made, state, repo }) => ({ body: made.body, state: { ...state, data: repo.data }, cause: 'prev-data' }),
    ],
    [
      'whose ops were left out',
      ({ made, state }) => ({ body: { ...made.body, tooBig: true, ops: [] }, state, cause: 'too-big' }),
    ],
    ['that starts anew', ({ made, state, repo }) => ({ body: firstAgain(repo, made), state, cause: 'since' })],
    ['whose proof lacks a node', (s) => ({ body: withoutRootNode(s), state: s.state, cause: 'incomplete-proof' })],
  ]
  test.each(cases)('%s', (_, make) => {
    const s = scene()
    const { body, state, cause } = make(s)
    const verdict = verifyCommit(frameOf(body), state, s.repo.key.did, FULL)
    expect(verdict).toMatchObject({ kind: 'gap', cause, state: { rev: body.rev } })
  })

  test('but never on the word of a forger', () => {
    for (const [, make] of cases) {
      const s = scene()
      const { body, state } = make(s)
      expect(verifyCommit(frameOf(body), state, testKey('somebody else').did, FULL)).toMatchObject({
        kind: 'refused',
        reason: 'bad-signature',
      })
    }
  })
})

/** The body with only the signed commit among its blocks. */
function withoutTree(repo: TestRepo, body: CommitBody): CommitBody {
  const { blocks } = readCar(body.blocks)
  return { ...body, blocks: writeCar(repo.commit!, [[repo.commit!, blocks.get(repo.commit!)!]]) }
}

function withoutRootNode(s: Scene): CommitBody {
  return withBlocks(s, (blocks) => blocks.delete(s.repo.data))
}

function firstAgain(repo: TestRepo, made: Made): CommitBody {
  const { prevData: _, ...body } = made.body
  const again = new TestRepo(repo.did, { key: repo.key, startMs: NOW - 1_000_000 })
  return { ...body, ...again.write([{ path: 'app.bsky.feed.post/3k', record: POST }]).body }
}

describe('a host from before Sync 1.1: no prevData, no prev', () => {
  function legacy({ made }: Scene): CommitBody {
    const { prevData: _, ...body } = made.body
    return { ...body, ops: body.ops.map((op) => ({ ...op, prev: undefined })) }
  }

  test('its ops are looked up in the tree, and `since` is the chain', () => {
    const s = scene()
    expect(verifyCommit(frameOf(legacy(s)), s.state, s.repo.key.did, FULL)).toMatchObject({
      kind: 'apply',
      proof: 'legacy',
    })
    expect(verifyCommit(frameOf(legacy(s)), { ...s.state, rev: '3aaaaaaaaaaaa' }, s.repo.key.did, FULL)).toMatchObject({
      kind: 'gap',
      cause: 'since',
    })
  })

  test.each([
    ['a delete', null],
    ['an update', { ...POST, text: 'changed' }],
  ])('%s that does not say what was there is looked up too, though the commit has prevData', (_, record) => {
    const { repo, made } = scene()
    const state = { rev: repo.rev, data: repo.data }
    const { body } = repo.write([
      { path: made.body.ops[0]!.path, record },
      { path: 'app.bsky.feed.post/3kaaaaaaaaaa3', record: POST },
    ])
    const ops = body.ops.map((op) => ({ ...op, prev: undefined }))
    expect(verifyCommit(frameOf({ ...body, ops }), state, repo.key.did, FULL)).toMatchObject({
      kind: 'apply',
      proof: 'legacy',
    })
  })

  test('an op that the tree does not show is refused', () => {
    const s = scene()
    const body = legacy(s)
    const lying = [
      { ...body, ops: [{ ...body.ops[0]!, path: 'app.bsky.feed.post/3kaaaaaaaaaa3' }] },
      { ...body, ops: [{ ...body.ops[0]!, cid: link(s.repo.data) }] },
      { ...body, ops: [{ action: 'delete', path: body.ops[0]!.path, cid: null }] },
    ]
    for (const lie of lying) {
      expect(verifyCommit(frameOf(lie), s.state, s.repo.key.did, FULL)).toMatchObject({
        kind: 'refused',
        reason: 'mst-op-mismatch',
      })
    }
  })
})

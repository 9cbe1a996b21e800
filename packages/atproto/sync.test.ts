import { describe, expect, test } from 'vitest'
import { parseCid } from './cid.ts'
import type { ChainState } from './chain.ts'
import type { CommitRefusal } from './commit.ts'
import { decodeFrame, type SyncFrame } from './frame.ts'
import { writeCar } from './testing/car-write.ts'
import { encodeFrame } from './testing/frames.ts'
import { testKey } from './testing/keys.ts'
import type { TestRepo } from './testing/repo.ts'
import { FULL } from './testing/scene.ts'
import { verifySync } from './testing/verify.ts'
import { populatedRepo, testDid } from './testing/world.ts'

describe('#sync', () => {
  function synced(): { frame: SyncFrame; repo: TestRepo; state: ChainState; body: Record<string, unknown> } {
    const repo = populatedRepo('sync test', 20)
    const { body, bytes } = repo.sync()
    return { frame: decodeFrame(bytes) as SyncFrame, repo, state: { rev: repo.rev, data: repo.data }, body }
  }

  test('of what we have is nothing, of the same tree at a newer rev is that, of another tree asks for a resync', () => {
    const { frame, repo, state } = synced()
    const older = { ...state, rev: '3aaaaaaaaaaaa' }
    const another = parseCid('bafyreidfayvfuwqa7qlnopdjiqrxzs6blmoeu4rujcjtnci5beludirz2a')!
    expect(verifySync(frame, state, repo.key.did, FULL)).toEqual({ kind: 'duplicate' })
    expect(verifySync(frame, older, repo.key.did, FULL)).toEqual({ kind: 'same', state })
    expect(verifySync(frame, { ...older, data: another }, repo.key.did, FULL)).toEqual({ kind: 'resync', state })
    expect(verifySync(frame, { ...state, data: another }, repo.key.did, FULL)).toEqual({ kind: 'resync', state })
    expect(verifySync(frame, null, repo.key.did, FULL)).toEqual({ kind: 'resync', state })
    expect(verifySync(frame, { ...state, rev: '3zzzzzzzzzzzz' }, repo.key.did, FULL)).toEqual({ kind: 'duplicate' })
  })

  test.each<[CommitRefusal, (s: ReturnType<typeof synced>) => object]>([
    ['bad-did', ({ body }) => ({ ...body, did: 'x' })],
    ['bad-rev', ({ body }) => ({ ...body, rev: 'x' })],
    ['future-rev', ({ body }) => ({ ...body, rev: '3zzzzzzzzzzzz' })],
    ['wrong-did', ({ body }) => ({ ...body, did: testDid('another') })],
    ['wrong-rev', ({ body }) => ({ ...body, rev: '3aaaaaaaaaaaa' })],
    ['frame-too-large', ({ body }) => padded(body, 5_000_001)],
    ['blocks-too-large', ({ body }) => ({ ...body, blocks: Buffer.alloc(10_001) })],
    ['car-truncated', ({ body }) => ({ ...body, blocks: Buffer.alloc(0) })],
    ['no-commit-block', ({ body, repo }) => ({ ...body, blocks: writeCar(repo.commit!, []) })],
  ])('%s', (reason, change) => {
    const s = synced()
    const frame = decodeFrame(encodeFrame('#sync', change(s))) as SyncFrame
    expect(verifySync(frame, null, s.repo.key.did, FULL)).toMatchObject({ kind: 'refused', reason })
  })

  test('may be as large as the protocol allows', () => {
    const { body, repo } = synced()
    const frame = decodeFrame(encodeFrame('#sync', padded(body, 5_000_000))) as SyncFrame
    expect(frame.frameBytes).toBe(5_000_000)
    expect(verifySync(frame, null, repo.key.did, FULL)).toMatchObject({ kind: 'resync' })
  })

  test('even when nothing seems new, a forged one is refused: its rev would hide the true ones', () => {
    const { frame, state } = synced()
    for (const known of [state, { ...state, rev: '3aaaaaaaaaaaa' }, null]) {
      expect(verifySync(frame, known, testKey('somebody else').did, FULL)).toMatchObject({
        kind: 'refused',
        reason: 'bad-signature',
      })
    }
  })
})

/** The body, of which the frame has so many bytes. */
function padded(body: object, frameBytes: number): object {
  const enough = 'x'.repeat(100_000)
  const rest = frameBytes - encodeFrame('#sync', { ...body, padding: enough }).length
  return { ...body, padding: enough + 'x'.repeat(rest) }
}

import { COMMIT_LIMITS } from '@sluice/atproto/commit.ts'
import { decodeFrame, type CommitFrame } from '@sluice/atproto/frame.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { expect, test } from 'vitest'
import { roomFor } from './event-room.ts'
import { textBytes } from './journal.ts'
import { Verifier, type Verification, type TrueCommit } from './verifier.ts'

const NOW_MS = Date.UTC(2026, 0, 2)

/** Of a commit whose ops all name one record. */
function verified(
  ops: number,
  content: object,
): { verification: Verification; frame: CommitFrame; frameBytes: number } {
  const repo = new TestRepo(testDid('amplifier'))
  const record = { $type: 'app.bsky.feed.post', createdAt: '2026-01-01T00:00:00Z', ...content }
  const writes = Array.from({ length: ops }, (_, i) => ({ path: `app.bsky.feed.post/${1_000 + i}`, record }))
  const { bytes } = repo.write(writes)
  const frame = decodeFrame(bytes) as CommitFrame
  const verifier = new Verifier({ level: 'full', collections: ['app.bsky.feed.post'] })
  return { verification: verifier.verify(frame, repo.key.did, NOW_MS), frame, frameBytes: bytes.length }
}

test('a record that many ops name counts once for each of them', () => {
  const { verification, frameBytes } = verified(200, { text: '\u0001'.repeat(20_000) })
  expect(frameBytes).toBeLessThan(100_000)
  expect(verification).toMatchObject({ kind: 'refused', reason: 'records-too-large' })
  expect(verified(3, { text: '\u0001'.repeat(700_000) }).verification).toMatchObject({
    kind: 'refused',
    reason: 'records-too-large',
  })
})

test.each([
  ['U+0001, which is six characters in JSON', 5.9, { text: '\u0001'.repeat(19_000) }],
  ['empty byte strings, which are fourteen', 13.9, { facets: Array.from({ length: 19_000 }, () => new Uint8Array()) }],
])(
  'records that many ops name are verified as others within the limit, and their events find the room that is taken for them: %s',
  (_, times, content) => {
    const { verification, frame, frameBytes } = verified(104, content)
    if (verification.kind !== 'commit') throw new Error(JSON.stringify(verification))
    expect(verification.entries.length).toBe(104)
    expect(frameBytes).toBeLessThan(50_000)
    expect(textBytes(verification)).toBeGreaterThan(0.95 * times * COMMIT_LIMITS.blocksBytes)
    expect(textBytes(verification)).toBeLessThanOrEqual(roomFor(frame))
  },
)

test('no more room is taken for records that repeat than a commit may have of them, and none for a commit of too many ops', () => {
  const repeated = verified(200, { text: 'x'.repeat(9_000) })
  expect(roomFor(repeated.frame)).toBeLessThan(14 * (repeated.frameBytes + COMMIT_LIMITS.blocksBytes) + 200 * 500)
  const small = verified(2, { text: 'x' })
  expect(roomFor(small.frame)).toBeLessThan(14 * 2 * small.frameBytes + 2 * 500)
  expect(textBytes(small.verification as TrueCommit)).toBeLessThanOrEqual(roomFor(small.frame))
  const many = verified(201, { text: 'x' })
  expect(many.verification).toMatchObject({ kind: 'refused', reason: 'too-many-ops' })
  expect(roomFor(many.frame)).toBe(0)
})

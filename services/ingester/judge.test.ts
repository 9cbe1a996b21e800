import { COMMIT_LIMITS } from '@sluice/atproto/commit.ts'
import { decodeFrame, type CommitFrame } from '@sluice/atproto/frame.ts'
import { TestRepo } from '@sluice/atproto/testing/repo.ts'
import { testDid } from '@sluice/atproto/testing/world.ts'
import { expect, test } from 'vitest'
import { textBytes } from './journal.ts'
import { Judge, type Judgement } from './judge.ts'

const NOW_MS = Date.UTC(2026, 0, 2)

/** Of a commit whose ops all name one record of so many bytes that are six each in JSON. */
function judged(ops: number, bytes: number): { judgement: Judgement; frameBytes: number } {
  const repo = new TestRepo(testDid('amplifier'))
  const record = { $type: 'app.bsky.feed.post', text: '\u0001'.repeat(bytes), createdAt: '2026-01-01T00:00:00Z' }
  const writes = Array.from({ length: ops }, (_, i) => ({ path: `app.bsky.feed.post/${1_000 + i}`, record }))
  const frame = repo.write(writes).bytes
  const judge = new Judge({ level: 'full', collections: ['app.bsky.feed.post'] })
  const judgement = judge.judge(decodeFrame(frame) as CommitFrame, repo.key.did, NOW_MS)
  return { judgement, frameBytes: frame.length }
}

test('a record that many ops name counts once for each of them', () => {
  const { judgement, frameBytes } = judged(200, 20_000)
  expect(frameBytes).toBeLessThan(100_000)
  expect(judgement).toMatchObject({ kind: 'refused', reason: 'records-too-large' })
  expect(judged(3, 700_000).judgement).toMatchObject({ kind: 'refused', reason: 'records-too-large' })
})

test('records that many ops name are judged as others within the limit, and their events are six times as long at most', () => {
  const { judgement } = judged(100, 19_000)
  if (judgement.kind !== 'commit') throw new Error(judgement.kind)
  expect(judgement.entries.length).toBe(100)
  expect(textBytes(judgement)).toBeGreaterThan(5 * COMMIT_LIMITS.blocksBytes)
  expect(textBytes(judgement)).toBeLessThan(6 * COMMIT_LIMITS.blocksBytes)
})

import { decodeFrame, type CommitFrame } from '@sluice/atproto/frame.ts'
import { encodeFrame } from '@sluice/atproto/testing/frames.ts'
import { testKey } from '@sluice/atproto/testing/keys.ts'
import { populatedRepo, traffic } from '@sluice/atproto/testing/world.ts'
import { expect, test } from 'vitest'
import { Verifier } from './verifier.ts'
import { VerifierPool } from './verifier-pool.ts'

const OPTIONS = { level: 'full', collections: ['app.bsky.feed.*'] } as const

test('threads verify as the main one does, each frame its own, however many there are at once', async () => {
  const repo = populatedRepo('verifier pool', 20)
  const frames = traffic(repo, 'verifier pool', 150).map(({ bytes }) => bytes)
  let seconds = 0
  const pool = new VerifierPool({ threads: 2, verifier: OPTIONS, onSeconds: (more) => (seconds += more) })
  try {
    const alone = new Verifier(OPTIONS)
    const keyOf = (i: number): string | undefined => [repo.key.did, testKey('another').did, undefined][i % 3]
    const found = await Promise.all(
      frames.map((bytes, i) => pool.verify(decodeFrame(bytes) as CommitFrame, bytes, keyOf(i))),
    )
    expect(found).toEqual(frames.map((bytes, i) => alone.verify(decodeFrame(bytes) as CommitFrame, keyOf(i))))
    expect(new Set(found.map(({ kind }) => kind))).toEqual(new Set(['commit', 'refused']))
    expect(seconds).toBeGreaterThan(0)
  } finally {
    await pool.close()
  }
})

test('a thread that fails fails what is under way, and all that follows', async () => {
  const bytes = encodeFrame('#identity', { seq: 1, did: 'did:plc:x', time: 'now' })
  const frame = decodeFrame(bytes) as unknown as CommitFrame
  const pool = new VerifierPool({ threads: 1, verifier: OPTIONS, onSeconds: () => {} })
  try {
    const all = await Promise.allSettled([pool.verify(frame, bytes, undefined), pool.verify(frame, bytes, undefined)])
    expect(all.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await expect(pool.verify(frame, bytes, undefined)).rejects.toThrow('cannot be verified')
  } finally {
    await pool.close()
  }
})

test('a thread that ends without a word fails what it had, and all that follows', async () => {
  const bytes = encodeFrame('#identity', { seq: 1, did: 'did:plc:x', time: 'now' })
  const frame = decodeFrame(bytes) as unknown as CommitFrame
  const program = new URL(
    `data:text/javascript,import{parentPort}from'node:worker_threads';parentPort.on('message',()=>process.exit(3))`,
  )
  const pool = new VerifierPool({ threads: 1, verifier: OPTIONS, onSeconds: () => {}, program })
  await expect(pool.verify(frame, bytes, undefined)).rejects.toThrow('ended with code 3')
  await expect(pool.verify(frame, bytes, undefined)).rejects.toThrow('ended with code 3')
  await pool.close()
})

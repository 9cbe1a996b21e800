/** A thread of the verifier pool: bundles in, verifications out, in the same order. */
import { parentPort, workerData } from 'node:worker_threads'
import { decodeFrame } from '@sluice/atproto/frame.ts'
import type { Bundle, BundleResult } from './verifier-pool.ts'
import { Verifier, type VerifierOptions, type Verification } from './verifier.ts'

const verifier = new Verifier(workerData as VerifierOptions)

parentPort!.on('message', ({ bytes, ends, keys }: Bundle) => {
  const began = performance.now()
  const verifications = ends.map((end, i): Verification => {
    const frame = decodeFrame(bytes.subarray(ends[i - 1] ?? 0, end))
    // The main thread has decoded it before, and sends no other types.
    if (frame.type !== 'commit' && frame.type !== 'sync') throw new Error(`a ${frame.type} frame cannot be verified`)
    return verifier.verify(frame, keys[i])
  })
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
  parentPort!.postMessage({ verifications, seconds: (performance.now() - began) / 1_000 } satisfies BundleResult)
})

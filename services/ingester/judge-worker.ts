/** A thread of the judge pool: bundles in, verdicts out, in order. */
import { parentPort, workerData } from 'node:worker_threads'
import { decodeFrame } from '@sluice/atproto/frame.ts'
import type { Bundle, Verdicts } from './judge-pool.ts'
import { Judge, type JudgeOptions, type Judgement } from './judge.ts'

const judge = new Judge(workerData as JudgeOptions)

parentPort!.on('message', ({ bytes, ends, keys }: Bundle) => {
  const began = performance.now()
  const judgements = ends.map((end, i): Judgement => {
    const frame = decodeFrame(bytes.subarray(ends[i - 1] ?? 0, end))
    // The main thread read it before, and sends no other.
    if (frame.type !== 'commit' && frame.type !== 'sync') throw new Error(`a ${frame.type} frame cannot be judged`)
    return judge.judge(frame, keys[i])
  })
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread has no origin
  parentPort!.postMessage({ judgements, seconds: (performance.now() - began) / 1_000 } satisfies Verdicts)
})

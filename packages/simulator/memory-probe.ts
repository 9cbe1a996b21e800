/**
 * Loaded into a daemon with `--expose-gc --import`: at each SIGUSR2 it collects all garbage and writes what is then
 * still held, in bytes, as a line on stderr. Resident memory alone tells little: V8 gives a heap back only under
 * pressure, and a heap that has room grows into it.
 */
import { isMainThread } from 'node:worker_threads'
import { PROBE_MARK } from './held-memory.ts'

if (isMainThread) {
  let probes = 0
  process.on('SIGUSR2', () => {
    // The second one takes what the first one's finalizers let go.
    globalThis.gc!()
    globalThis.gc!()
    const { heapUsed, external } = process.memoryUsage()
    process.stderr.write(`${PROBE_MARK}${JSON.stringify({ probe: ++probes, bytes: heapUsed + external })}\n`)
  })
}

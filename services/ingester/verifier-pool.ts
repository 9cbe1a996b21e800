/**
 * Verifies frames on other threads, so that the main thread only reads, decides and writes. Frames are sent in bundles:
 * one bundle at a time to each thread, and the next one while it works. So under load many frames share the cost of a
 * message, and otherwise none waits.
 *
 * Measured (`ingester.bench.ts`, `full`, CPU from socket to Redis): the main thread takes 49 µs a frame with one thread
 * beside it, and 190 without. The sum over all threads is the same.
 */
import { Worker } from 'node:worker_threads'
import type { Verification, VerifierOptions } from './verifier.ts'
import type { Verifying } from './pipeline.ts'

/** Frames, one after the other in `bytes`. */
export interface Bundle {
  bytes: Uint8Array<ArrayBuffer>
  /** Where each frame ends. */
  ends: number[]
  keys: (string | undefined)[]
}

export interface BundleResult {
  verifications: Verification[]
  /** How long they took. */
  seconds: number
}

export interface VerifierPoolOptions {
  threads: number
  verifier: VerifierOptions
  onSeconds: (seconds: number) => void
  /** The program of a thread; tests have one that ends. */
  program?: URL
}

const PROGRAM = new URL('./verifier-worker.ts', import.meta.url)

interface Waiting {
  bytes: Buffer
  key: string | undefined
  resolve: (verification: Verification) => void
  reject: (error: unknown) => void
}

const BUNDLE_FRAMES = 64
/** Bundles that one thread may have: one is worked on, and one lies ready. */
const BUNDLES_OUT = 2

export class VerifierPool implements Verifying {
  readonly #onSeconds: (seconds: number) => void
  readonly #threads: { worker: Worker; out: Waiting[][] }[]
  #waiting: Waiting[] = []
  #flushing = false
  #failure: { error: unknown } | undefined
  #closing = false

  constructor({ threads, verifier, onSeconds, program = PROGRAM }: VerifierPoolOptions) {
    this.#onSeconds = onSeconds
    this.#threads = Array.from({ length: threads }, () => {
      const worker = new Worker(program, { workerData: verifier })
      const thread = { worker, out: [] as Waiting[][] }
      worker.on('message', (result: BundleResult) => this.#take(thread.out.shift()!, result))
      worker.on('error', (error) => this.#fail(error))
      // A thread that ends without an error would leave its frames unanswered.
      worker.on('exit', (code) => {
        if (!this.#closing) this.#fail(new Error(`a thread that verifies ended with code ${code}`))
      })
      return thread
    })
  }

  verify(_frame: unknown, bytes: Buffer, key: string | undefined): Promise<Verification> {
    return new Promise((resolve, reject) => {
      if (this.#failure) return reject(this.#failure.error)
      this.#waiting.push({ bytes, key, resolve, reject })
      if (this.#flushing) return
      this.#flushing = true
      // Frames that are read in the same turn of the event loop go into the same bundle.
      setImmediate(() => this.#flush())
    })
  }

  /** Ends the threads. To be called when no frame is under way: it would be lost. */
  async close(): Promise<void> {
    this.#closing = true
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  #flush(): void {
    this.#flushing = false
    while (this.#waiting.length > 0) {
      const thread = this.#threads.reduce((a, b) => (b.out.length < a.out.length ? b : a))
      if (thread.out.length >= BUNDLES_OUT) return
      const frames = this.#waiting.splice(0, BUNDLE_FRAMES)
      thread.out.push(frames)
      const bundle = bundleOf(frames)
      thread.worker.postMessage(bundle, [bundle.bytes.buffer])
    }
  }

  #take(frames: readonly Waiting[], { verifications, seconds }: BundleResult): void {
    this.#onSeconds(seconds)
    for (const [i, { resolve }] of frames.entries()) resolve(verifications[i]!)
    this.#flush()
  }

  /** A thread has failed, by a bug of ours or for want of memory. Nothing can be verified any more. */
  #fail(error: unknown): void {
    this.#failure ??= { error }
    const left = [...this.#waiting, ...this.#threads.flatMap(({ out }) => out.flat())]
    this.#waiting = []
    for (const { reject } of left) reject(error)
  }
}

function bundleOf(frames: readonly Waiting[]): Bundle {
  const bytes = new Uint8Array(frames.reduce((sum, frame) => sum + frame.bytes.length, 0))
  const ends: number[] = []
  let at = 0
  for (const frame of frames) {
    bytes.set(frame.bytes, at)
    ends.push((at += frame.bytes.length))
  }
  return { bytes, ends, keys: frames.map(({ key }) => key) }
}

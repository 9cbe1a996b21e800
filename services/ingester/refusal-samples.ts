/**
 * Keeps samples of refused frames for the operator (`sluice refused`), beside the path of the frames. `note` returns at
 * once, whatever Redis does, and nothing waits for a sample. What was refused is counted elsewhere, so any sample may
 * be left out.
 *
 * Strangers decide how much is refused, and must not turn that into load. Of each reason `OF_REASON` samples are stored
 * at once, and then one in ten seconds, so that a flood of one reason leaves room for others. Of all reasons together
 * `OF_ALL` are stored at once, and then four a second. One write is under way at a time, and at most `WAITING_MAX`
 * wait, each with 64 kB of its frame: half a megabyte, while Redis is slow or away.
 */
import { beginningOf, storeSample, type RefusedFrame } from '@sluice/streams/refused-frames.ts'
import type { Redis } from '@sluice/streams/connection.ts'

/** What became of a refused frame as a sample; fit for a metric label. */
export const SAMPLE_OUTCOMES = ['stored', 'left-out', 'failed'] as const
export type SampleOutcome = (typeof SAMPLE_OUTCOMES)[number]

export interface RefusalSamplesOptions {
  redis: Redis
  /** The stream to which the frame's events would have gone. */
  stream: string
  onOutcome: (outcome: SampleOutcome) => void
  /** A clock in ms; it need not tell the time of day. */
  now?: () => number
}

interface Rate {
  burst: number
  everyMs: number
}

const OF_REASON: Rate = { burst: 5, everyMs: 10_000 }
const OF_ALL: Rate = { burst: 10, everyMs: 250 }
const WAITING_MAX = 8

export class RefusalSamples {
  readonly #options: RefusalSamplesOptions
  readonly #now: () => number
  /** By reason. The reasons are a closed list. */
  readonly #rates = new Map<string, Bucket>()
  readonly #all: Bucket
  readonly #waiting: RefusedFrame[] = []
  #isStoring = false

  constructor(options: RefusalSamplesOptions) {
    this.#options = options
    this.#now = options.now ?? (() => performance.now())
    this.#all = new Bucket(OF_ALL, this.#now())
  }

  /** Samples a frame, or leaves it out. The frame's bytes are read before this returns, and not after. */
  note(frame: RefusedFrame): void {
    if (!this.#mayStore(frame.reason)) return this.#options.onOutcome('left-out')
    this.#waiting.push(beginningOf(frame))
    if (!this.#isStoring) void this.#store()
  }

  #mayStore(reason: string): boolean {
    const now = this.#now()
    let own = this.#rates.get(reason)
    if (own === undefined) this.#rates.set(reason, (own = new Bucket(OF_REASON, now)))
    if (this.#waiting.length >= WAITING_MAX || !own.has(now) || !this.#all.has(now)) return false
    own.take()
    this.#all.take()
    return true
  }

  async #store(): Promise<void> {
    const { redis, stream, onOutcome } = this.#options
    this.#isStoring = true
    for (let frame = this.#waiting.shift(); frame !== undefined; frame = this.#waiting.shift()) {
      // A failure: Redis is full or away, or the key holds something else, which `sluice refused` tells.
      const isStored = await storeSample(redis, stream, frame).then(
        () => true,
        () => false,
      )
      onOutcome(isStored ? 'stored' : 'failed')
    }
    this.#isStoring = false
  }
}

/** `burst` at once, and one more for each `everyMs` that passes. */
class Bucket {
  readonly #rate: Rate
  #creditMs: number
  #atMs: number

  constructor(rate: Rate, nowMs: number) {
    this.#rate = rate
    this.#creditMs = rate.burst * rate.everyMs
    this.#atMs = nowMs
  }

  has(nowMs: number): boolean {
    const { burst, everyMs } = this.#rate
    this.#creditMs = Math.min(burst * everyMs, this.#creditMs + nowMs - this.#atMs)
    this.#atMs = nowMs
    return this.#creditMs >= everyMs
  }

  take(): void {
    this.#creditMs -= this.#rate.everyMs
  }
}

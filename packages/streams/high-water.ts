/**
 * Backpressure: tells a producer when to wait.
 *
 * The producer waits when the stream has `entriesMax` entries, or when Redis uses `memoryRatioMax` of its `maxmemory`.
 * It goes on only below the low marks, so that it does not stop and start all the time. Nothing is dropped or trimmed:
 * while the producer waits, its socket is not read, and the relay's replay window serves as the overflow buffer. The
 * memory mark lies well below `maxmemory`, because the stream is not the only thing in Redis, and pending entries cost
 * memory too (+148 bytes each).
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { classifyRedisError, type Redis } from './connection.ts'

export interface HighWaterOptions {
  redis: Redis
  stream: string
  /** Entries in the stream at which the producer waits. */
  entriesMax: number
  /** Share of `maxmemory` at which the producer waits; without a `maxmemory` there is no such limit. */
  memoryRatioMax?: number
  /** Called when the producer must begin to wait, and with undefined when it may go on. */
  onChange?: (held: HeldBack | undefined) => void
}

/** Why a producer waits; fit for a metric label. */
export const HOLD_CAUSES = ['entries', 'memory'] as const

export interface HeldBack {
  by: (typeof HOLD_CAUSES)[number]
  /** For the operator: which mark was reached, and the value that reached it. */
  detail: string
}

const LOW_RATIO = 0.8
const MEMORY_LOW_RATIO = 0.9
const POLL_MS = 200
/** Time between two looks at Redis, while the depth that the last append reported says that there is room. */
const FRESH_MS = 1_000
/**
 * The share of the room below the memory mark that may be appended between two looks at Redis. It is small because
 * other producers append too.
 */
const FRESH_ROOM_RATIO = 0.1

export class HighWater {
  readonly #options: Required<Pick<HighWaterOptions, 'memoryRatioMax'>> & HighWaterOptions
  #held: HeldBack | undefined
  #entries = 0
  #memoryRatio = 0
  /** Bytes that may still be appended before the next look at Redis. */
  #freshBytes = 0
  #lookedAtMs = Number.NEGATIVE_INFINITY

  constructor(options: HighWaterOptions) {
    this.#options = { memoryRatioMax: 0.8, ...options }
  }

  /** Why the producer waits at this moment, or undefined. */
  get held(): HeldBack | undefined {
    return this.#held
  }

  /**
   * Takes note of the depth that an append of so many bytes reported. So the entry mark is noticed without a look at
   * Redis.
   */
  observe({ entries, bytes }: { entries: number; bytes: number }): void {
    this.#entries = entries
    this.#freshBytes -= bytes
    this.#decide()
  }

  /** Resolves when there is room. @throws TransientError when Redis cannot be asked; AbortError on the signal. */
  async room(signal: AbortSignal): Promise<void> {
    // The clock alone would not do: large records that arrive within one second can fill a small Redis.
    if (this.#held || this.#freshBytes <= 0 || Date.now() - this.#lookedAtMs > FRESH_MS) await this.#look()
    while (this.#held) {
      await sleep(POLL_MS, signal)
      await this.#look()
    }
  }

  async #look(): Promise<void> {
    try {
      const [entries, memory] = await Promise.all([
        this.#options.redis.xLen(this.#options.stream),
        this.#options.redis.info('memory'),
      ])
      this.#entries = entries
      const { usedBytes, maxBytes } = memoryUse(memory)
      this.#memoryRatio = maxBytes > 0 ? usedBytes / maxBytes : 0
      const roomBytes = maxBytes * this.#options.memoryRatioMax - usedBytes
      this.#freshBytes = maxBytes > 0 ? roomBytes * FRESH_ROOM_RATIO : Number.POSITIVE_INFINITY
    } catch (error) {
      throw classifyRedisError(error)
    }
    this.#lookedAtMs = Date.now()
    this.#decide()
  }

  #decide(): void {
    const { stream, entriesMax, memoryRatioMax, onChange } = this.#options
    const factor = this.#held ? LOW_RATIO : 1
    const memoryFactor = this.#held ? MEMORY_LOW_RATIO : 1
    const tooMany = this.#entries >= entriesMax * factor
    const tooFull = this.#memoryRatio >= memoryRatioMax * memoryFactor
    if (tooMany || tooFull) {
      const detail = tooMany
        ? `${stream} holds ${this.#entries} entries, the high-water mark is ${entriesMax}`
        : `Redis uses ${Math.round(this.#memoryRatio * 100)} % of maxmemory, the mark is ${Math.round(memoryRatioMax * 100)} %`
      const first = this.#held === undefined
      this.#held = { by: tooMany ? 'entries' : 'memory', detail }
      if (first) onChange?.(this.#held)
    } else if (this.#held) {
      this.#held = undefined
      onChange?.(undefined)
    }
  }
}

/** The memory figures in the text of INFO memory; `maxBytes` is 0 when there is no limit. */
export function memoryUse(info: string): { usedBytes: number; maxBytes: number } {
  const maxBytes = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0)
  const usedBytes = Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0)
  return { usedBytes, maxBytes }
}

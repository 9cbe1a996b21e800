/**
 * The schedule: entries in Redis that are not due yet. They have failed, or their host has no turn for them.
 *
 * An entry is in its stream or in the schedule, never in both and never in neither: each move is one atomic step. So a
 * wait survives restarts, and a waiting entry holds no place. Due entries go to the end of their stream. All times are
 * by Redis' clock.
 *
 * An account has one entry here. A repository that fails for weeks is requested again every few days, and its two
 * entries are merged into one: with the later rev, and of each class of failures the larger count.
 * Several entries that an older version left for one account are merged at their next failure.
 */
import { backfillEventCodec } from '@sluice/events/codec.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { retry, sleep, type Retry } from '@sluice/runtime/backoff.ts'
import { hostKey, retriesByDidKey, retryKey } from '@sluice/streams/backfill-queue.ts'
import { classified, classifyRedisError, REDIS_BACKOFF, type Redis } from '@sluice/streams/connection.ts'
import type { GroupAddress } from '@sluice/streams/entries.ts'
import { loadScript, runScript, type Script } from '@sluice/streams/scripts.ts'
import { CLOSED_MS_MAX, HOST_KEPT_MS } from './pds-limits.ts'

const scripts = {
  putOff: loadScript(new URL('lua/put-off.lua', import.meta.url)),
  due: loadScript(new URL('lua/due.lua', import.meta.url)),
}

const [FIELD] = Object.keys(backfillEventCodec.encode({ did: '', host: '', rev: '' })) as [string]
const DUE_ENTRIES = 500
/** The longest time between two looks at the schedule: other processes may have put an entry in that is due earlier. */
const LOOK_MS = 1_000

export interface Turn {
  host: string
  /** The least time until the turn, from now. */
  delayMs: number
  /** The time between two turns of the host. */
  intervalMs: number
  /**
   * For how long Redis remembers the host after its last turn, at least. Default: `HOST_KEPT_MS`, as for hosts of
   * repositories.
   */
  keptMs?: number
}

export class RetrySchedule {
  readonly #redis: Redis
  readonly #entriesMax: number

  constructor({ redis, entriesMax }: { redis: Redis; entriesMax: number }) {
    this.#redis = redis
    this.#entriesMax = entriesMax
  }

  /**
   * Moves a pending entry to the schedule for `delayMs`, and acks it in the same step. `entry` is the form in which it
   * comes back.
   * @throws TransientError
   */
  async retry(address: GroupAddress, id: string, entry: BackfillEvent, delayMs: number): Promise<void> {
    const { stream, group } = address
    const keys = [stream, retryKey(stream), retriesByDidKey(stream)]
    await this.#run(scripts.putOff, keys, [group, id, entry.did, textOf(entry), String(Math.round(delayMs))])
  }

  /**
   * Moves a pending entry to the schedule until its host has a turn for it, and acks it in the same step. The turns of
   * a host follow each other at the host's pace. False when the schedule is full: then nothing has happened.
   * @throws TransientError
   */
  async defer(address: GroupAddress, id: string, entry: BackfillEvent, turn: Turn): Promise<boolean> {
    const { stream, group } = address
    const keys = [stream, retryKey(stream), retriesByDidKey(stream), hostKey(stream, turn.host)]
    const numbers = [turn.delayMs, turn.intervalMs, this.#entriesMax, CLOSED_MS_MAX, turn.keptMs ?? HOST_KEPT_MS]
    const args = [group, id, entry.did, textOf(entry), ...numbers.map((n) => String(Math.round(n)))]
    return (await this.#run(scripts.putOff, keys, args)) !== 0
  }

  /**
   * Whether the schedule of `stream` holds fewer entries than `part` (0 to 1) of what it may hold.
   * @throws TransientError
   */
  async hasRoom(stream: string, part: number): Promise<boolean> {
    return (await classified(this.#redis.zCard(retryKey(stream)))) < this.#entriesMax * part
  }

  /**
   * Moves due entries back to `stream`, until `signal`. An outage of Redis is waited out here. If it were thrown, it
   * would end the exports that are under way; at a stop it would look as if an entry had been lost.
   */
  async run(stream: string, signal: AbortSignal, onRetry: (retry: Retry) => void): Promise<void> {
    const keys = [retryKey(stream), stream, retriesByDidKey(stream)]
    const move = () => this.#run(scripts.due, keys, [FIELD, String(DUE_ENTRIES)])
    while (!signal.aborted) {
      const reply = await retry(signal, REDIS_BACKOFF, move, onRetry).catch(unlessAborted(signal))
      if (reply === undefined) return
      const [moved, nextMs] = reply as [number, number]
      if (moved === DUE_ENTRIES) continue
      await sleep(nextMs === -1 ? LOOK_MS : Math.min(nextMs, LOOK_MS), signal).catch(() => undefined)
    }
  }

  async #run(script: Script, keys: string[], args: string[]): Promise<unknown> {
    try {
      return await runScript(this.#redis, script, keys, args)
    } catch (error) {
      throw classifyRedisError(error)
    }
  }
}

function unlessAborted(signal: AbortSignal): (error: unknown) => undefined {
  return (error) => {
    if (!signal.aborted) throw error
  }
}

function textOf(entry: BackfillEvent): string {
  return backfillEventCodec.encode(entry)[FIELD]!
}

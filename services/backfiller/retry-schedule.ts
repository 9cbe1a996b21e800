/**
 * Entries that are not due yet, in Redis: those that failed, and those whose host has no turn for them.
 *
 * An entry is in its stream or in the schedule, never in both and never in neither: each move is one atomic step, so a wait
 * survives restarts and holds no slot. Due entries go to the end of their stream. All times are by Redis' clock.
 *
 * An account has one entry here. A repository that fails for weeks is requested again every few days; its entries are merged, with the later rev
 * and the failures of the earlier one. Several that an older version left for one account are merged at their next failure.
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
/** The longest time between two looks; other processes may have put something in. */
const LOOK_MS = 1_000

export interface Turn {
  host: string
  /** Not before. */
  delayMs: number
  /** Between two entries of the host. */
  intervalMs: number
  /** How long the host is remembered after its last turn at least; default: as one of repositories. */
  keptMs?: number
}

export class RetrySchedule {
  readonly #redis: Redis
  readonly #entriesMax: number

  constructor({ redis, entriesMax }: { redis: Redis; entriesMax: number }) {
    this.#redis = redis
    this.#entriesMax = entriesMax
  }

  /** Puts a pending entry off by `delayMs`; `entry` is how it comes back. Acks it in the same step. @throws TransientError */
  async retry(address: GroupAddress, id: string, entry: BackfillEvent, delayMs: number): Promise<void> {
    const { stream, group } = address
    const keys = [stream, retryKey(stream), retriesByDidKey(stream)]
    await this.#run(scripts.putOff, keys, [group, id, entry.did, textOf(entry), String(Math.round(delayMs))])
  }

  /**
   * Puts a pending entry off until its host has a turn for it: one turn after the other, at the host's pace. Acks it in the
   * same step. False when too many wait already; then nothing has happened. @throws TransientError
   */
  async defer(address: GroupAddress, id: string, entry: BackfillEvent, turn: Turn): Promise<boolean> {
    const { stream, group } = address
    const keys = [stream, retryKey(stream), retriesByDidKey(stream), hostKey(stream, turn.host)]
    const numbers = [turn.delayMs, turn.intervalMs, this.#entriesMax, CLOSED_MS_MAX, turn.keptMs ?? HOST_KEPT_MS]
    const args = [group, id, entry.did, textOf(entry), ...numbers.map((n) => String(Math.round(n)))]
    return (await this.#run(scripts.putOff, keys, args)) !== 0
  }

  /** Whether fewer wait for `stream` than `part` of those that may. @throws TransientError */
  async hasRoom(stream: string, part: number): Promise<boolean> {
    return (await classified(this.#redis.zCard(retryKey(stream)))) < this.#entriesMax * part
  }

  /**
   * Moves what is due back to `stream`, until `signal`. An outage is waited out here: as a failure it would end the exports that are under way,
   * and at a stop it would look as if something taken had been lost.
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

/**
 * Whether the index must hold what a repository has at a rev: the events up to it have arrived, and whoever works on
 * the streams is done with them. Before that a difference means nothing.
 *
 * - The chain record tells what the ingester has appended of an account. A repository that is still to be fetched is
 *   not waited for.
 * - A stream holds what is left to do, and nothing else (an entry that is acked is deleted). So when its first entry is
 *   younger than the last one was at some time, everything of that time is done.
 * - A rev that the ingester has not come to may be lost, or still on its way. It counts as on its way for as long as a
 *   sweep of the ingester would leave it out: while it is young, or ahead of all that was read of the relays.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { tidMicros } from '@sluice/events/tid.ts'
import { readChains } from '@sluice/streams/chain-state.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { timeKey } from '@sluice/streams/cursors.ts'
import type { Settings } from './config.ts'

/**
 * `indexed`: the index must hold it. `to-be-fetched`: its repository was asked for, since something is missing.
 * `under-way`: its events are not in the index yet.
 */
export type Standing = 'indexed' | 'to-be-fetched' | 'under-way'

type Place = Pick<Settings, 'relays' | 'streams' | 'indexed' | 'sweepGraceMs'>

const POLL_MS = 200
/** How long the events of one account are waited for. */
const PATIENCE_MS = 30_000
/** After so many accounts that waited in vain the index is far behind, and no other is waited for. */
const IN_VAIN_MAX = 3

/** Tells of one account after the other where its repository stands. */
export class Standings {
  readonly #redis: Redis
  readonly #place: Place
  readonly #patienceMs: number
  #inVain = 0

  constructor(redis: Redis, place: Place, patienceMs = PATIENCE_MS) {
    this.#redis = redis
    this.#place = place
    this.#patienceMs = patienceMs
  }

  /**
   * Waits until the index must hold the repository as it was at its rev.
   * @throws TransientError; AbortError on the signal
   */
  async of(repo: { did: string; rev: string }, signal: AbortSignal): Promise<Standing> {
    const deadline = performance.now() + (this.#inVain < IN_VAIN_MAX ? this.#patienceMs : 0)
    let barrier: Map<string, string> | undefined
    for (;;) {
      if (barrier === undefined) {
        const arrival = await this.#arrival(repo)
        if (arrival === 'to-be-fetched') return arrival
        // After the look at the chain, which moves together with the entries.
        if (arrival === 'arrived') barrier = await this.#ends()
      }
      if (barrier !== undefined && (await this.#isPast(barrier))) return 'indexed'
      if (performance.now() >= deadline) {
        this.#inVain++
        return 'under-way'
      }
      await delay(POLL_MS, undefined, { signal })
    }
  }

  async #arrival({ did, rev }: { did: string; rev: string }): Promise<'arrived' | 'to-be-fetched' | 'on-its-way'> {
    const [chain] = await readChains(this.#redis, [did])
    if (chain?.record.resync) return 'to-be-fetched'
    if (chain && chain.record.rev >= rev) return 'arrived'
    const { relays, streams, sweepGraceMs } = this.#place
    const times = relays.length === 0 ? [] : await classified(this.#redis.mGet(relays.map((host) => timeKey(streams.live, host)))) // prettier-ignore
    const readUpToMs = Math.max(0, ...times.map((time) => Date.parse(time ?? '')).filter((ms) => !Number.isNaN(ms)))
    const madeMs = tidMicros(rev) / 1_000
    const isYoung = Date.now() - madeMs < sweepGraceMs
    const isAhead = readUpToMs > 0 && madeMs > readUpToMs
    return isYoung || isAhead ? 'on-its-way' : 'arrived'
  }

  /** The id of the last entry of each stream. Streams without an entry are left out: there is nothing to wait for. */
  async #ends(): Promise<Map<string, string>> {
    const ends = new Map<string, string>()
    for (const stream of this.#place.indexed) {
      const [last] = (await classified(this.#redis.xRevRange(stream, '+', '-', { COUNT: 1 }))) ?? []
      if (last) ends.set(stream, last.id)
    }
    return ends
  }

  /** Whether no entry is left of those up to these. */
  async #isPast(barrier: ReadonlyMap<string, string>): Promise<boolean> {
    for (const [stream, end] of barrier) {
      const left = await classified(this.#redis.xRange(stream, '-', end, { COUNT: 1 }))
      if (left && left.length > 0) return false
    }
    return true
  }
}

/**
 * Tries the commands of one consumer until they succeed: waits through outages, and makes the group again when Redis
 * has lost it.
 */
import { orAbort } from '@sluice/runtime/abort.ts'
import { retry, type BackoffPolicy } from '@sluice/runtime/backoff.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { NoGroupError, REDIS_BACKOFF, type Redis } from './connection.ts'
import type { ConsumerObserver } from './consumer.ts'
import { ensureGroup, type GroupAddress } from './entries.ts'
import { recordIncident, type Incident } from './incidents.ts'

export interface PatienceOptions {
  redis: Redis
  address: GroupAddress
  observer: Partial<ConsumerObserver>
  backoff?: BackoffPolicy | undefined
  /** After this signal nothing is waited for, not even the answer to a command that is under way. */
  end: AbortSignal
}

/**
 * The most incidents that wait to be stored. Beyond that the newest are dropped, because the first ones tell what
 * happened.
 */
const OWED_MAX = 100

export class Patience {
  readonly #options: PatienceOptions
  readonly #owed: Incident[] = []

  constructor(options: PatienceOptions) {
    this.#options = options
  }

  /**
   * Runs `act` until it succeeds. Only a `TransientError` is tried again.
   * @throws what else `act` throws; an AbortError when the signal aborts between tries, or when `end` aborts
   */
  async until<T>(signal: AbortSignal, act: () => Promise<T>): Promise<T> {
    const { observer, backoff = REDIS_BACKOFF, end } = this.#options
    let troubled = false
    const attempt = async () => {
      try {
        return await orAbort(end, act())
      } catch (error) {
        if (error instanceof NoGroupError) await this.#restoreGroup()
        throw error
      }
    }
    const result = await retry(signal, backoff, attempt, ({ error, delayMs }) => {
      troubled = true
      observer.trouble?.(error, delayMs)
    })
    if (troubled) observer.recovered?.()
    return result
  }

  /** Notes an incident of this consumer; the next `storeReported` stores it. */
  report(incident: Omit<Incident, 'role'>): void {
    const { group, consumer } = this.#options.address
    if (this.#owed.length < OWED_MAX) this.#owed.push({ ...incident, role: `${group} ${consumer}` })
  }

  /**
   * Stores the incidents that were reported.
   * @throws TransientError; the rest is stored the next time
   */
  async storeReported(): Promise<void> {
    const { redis, observer } = this.#options
    for (let next = this.#owed[0]; next; next = this.#owed[0]) {
      await recordIncident(redis, next, observer.incident)
      this.#owed.shift()
    }
  }

  async #restoreGroup(): Promise<void> {
    const { redis, address, observer } = this.#options
    try {
      if (!(await ensureGroup(redis, address))) return
    } catch (error) {
      // The command that failed with NoGroupError fails with that error. Its next try finds no group again, and comes
      // here again.
      if (error instanceof TransientError) return
      throw error
    }
    observer.groupLost?.()
    this.report({
      kind: 'group-lost',
      what: `Redis had lost the stream ${address.stream} or its group ${address.group}: it was flushed, or another server took over. Entries that were in it are gone`,
      action:
        'The group was made again from the beginning of the stream; producers go on from the cursors that Redis holds. Compare the index with its sources: `sluice sweep`',
    })
  }
}

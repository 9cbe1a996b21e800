/** Tries the commands of one consumer until they work: waits through outages, and makes the group again when Redis has lost it. */
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
  /** From then on nothing is waited for, not even the answer to a command that is under way. */
  end: AbortSignal
}

/** Incidents that could not be stored yet: the newest are dropped, the first tell the story. */
const OWED_MAX = 100

export class Patience {
  readonly #options: PatienceOptions
  readonly #owed: Incident[] = []

  constructor(options: PatienceOptions) {
    this.#options = options
  }

  /**
   * Tries until it works. Only a `TransientError` is tried again.
   * @throws what else `act` throws; an AbortError when the signal comes between tries, or at the end
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

  /** Stores an incident of this consumer with the next `storeReported`. */
  report(incident: Omit<Incident, 'role'>): void {
    const { group, consumer } = this.#options.address
    if (this.#owed.length < OWED_MAX) this.#owed.push({ ...incident, role: `${group} ${consumer}` })
  }

  /** Stores what was reported. @throws TransientError; then the rest is stored the next time */
  async storeReported(): Promise<void> {
    for (let next = this.#owed[0]; next; next = this.#owed[0]) {
      await recordIncident(this.#options.redis, next)
      this.#owed.shift()
    }
  }

  async #restoreGroup(): Promise<void> {
    const { redis, address, observer } = this.#options
    try {
      if (!(await ensureGroup(redis, address))) return
    } catch (error) {
      // The try that brought us here fails with what it found, and the next one comes here again.
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

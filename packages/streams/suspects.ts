/**
 * Finds the entry that kills its consumer.
 *
 * Redis counts deliveries, but a high count alone proves nothing. Everything that was in work when the process died is
 * delivered again, and restarts during an outage raise the counts too. So an entry that was delivered often is only a
 * suspect. It is worked on alone: no other batch of this process runs beside it. Only deaths soon after that work
 * begins are counted against the entry. The suspect is cleared when the process lives on for a while, when its batch
 * yields the turn, or when the work ends in another way.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { classified, type Redis } from './connection.ts'
import type { GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

/** From this delivery on, an entry is worked on alone. */
const SUSPECT_DELIVERIES = 4
/** A suspect is guilty when the process died this often while working on it alone. */
const DEATHS_MAX = 3
/**
 * Work that has gone on for this long without blocking the process does not kill it: it waits for something, such as a
 * database.
 */
const SURVIVED_MS = 2_000
/** A mark expires after this time, if its entry was finished by another process that does not remove it. */
const MARK_TTL_MS = 7 * 86_400_000

export function isSuspect(deliveries: number): boolean {
  return deliveries >= SUSPECT_DELIVERIES
}

/** A hash: id of an entry that is worked on alone → how often that work began and did not end. */
export const suspectsKey = ({ stream, group }: { stream: string; group: string }): string =>
  `${stream}:suspects:${group}`

export class Suspects {
  readonly #redis: Redis
  readonly #key: string
  readonly #survivedMs: number
  #onTrial: { id: string; survived: AbortController } | undefined

  constructor(redis: Redis, address: GroupAddress, survivedMs = SURVIVED_MS) {
    this.#redis = redis
    this.#survivedMs = survivedMs
    this.#key = suspectsKey(address)
  }

  /**
   * Notes that work on this entry alone begins. Returns false when that has ended in death too often.
   * @throws TransientError
   */
  async mayTry({ id }: { id: string }): Promise<boolean> {
    const begun = await classified(runScript(this.#redis, scripts.suspect, [this.#key], [id, String(MARK_TTL_MS)]))
    if (Number(begun) > DEATHS_MAX) return false
    const survived = new AbortController()
    this.#onTrial = { id, survived }
    void delay(this.#survivedMs, undefined, { signal: survived.signal, ref: false }).then(
      () => this.clear(),
      () => {},
    )
    return true
  }

  /** Clears the entry on trial, if there is one: it is not guilty, or it was dealt with. */
  async clear(): Promise<void> {
    if (!this.#onTrial) return
    const { id, survived } = this.#onTrial
    this.#onTrial = undefined
    survived.abort()
    await this.forget({ id })
  }

  /**
   * Removes the mark of an entry. The mark of a guilty entry must stay until its dead letter is stored, since that may
   * have to wait beyond a restart.
   */
  async forget({ id }: { id: string }): Promise<void> {
    // If the connection is gone, the mark stays and counts as one death. One death alone convicts no entry.
    await this.#redis.hDel(this.#key, id).catch(() => 0)
  }
}

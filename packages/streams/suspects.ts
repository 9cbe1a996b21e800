/**
 * Finds the entry that kills its consumer.
 *
 * Redis counts deliveries, but a high count alone proves nothing: everything that was in hand when the process died is delivered again, and
 * restarts during an outage raise the counts too. So an entry that was delivered often is a suspect, and is worked on alone: no other batch of this process runs beside it. Only
 * deaths soon after that begins are held against it. The suspect is cleared when the process lives on for a while, yields the turn, or ends in another way.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { classified, type Redis } from './connection.ts'
import type { GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

/** From this delivery on an entry is worked on alone. */
const SUSPECT_DELIVERIES = 4
/** A suspect with which the process died this often is guilty. */
const DEATHS_MAX = 3
/** Work that has gone on for so long without blocking the process does not kill it: it waits for something, such as a database. */
const SURVIVED_MS = 2_000
/** Marks that nobody removes, since somebody else finished their entries, expire. */
const MARK_TTL_MS = 7 * 86_400_000

export function isSuspect(deliveries: number): boolean {
  return deliveries >= SUSPECT_DELIVERIES
}

/** A hash: id of an entry that is worked on alone → how often that began and did not end. */
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

  /** Notes that work on this entry alone begins; false when that has ended in death too often. @throws TransientError */
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

  /** The entry on trial, if there is one, is not guilty, or is dealt with. */
  async clear(): Promise<void> {
    if (!this.#onTrial) return
    const { id, survived } = this.#onTrial
    this.#onTrial = undefined
    survived.abort()
    await this.forget({ id })
  }

  /** Removes the mark of an entry. That of a guilty one must stay until it is buried: it may wait for that through a restart. */
  async forget({ id }: { id: string }): Promise<void> {
    // A mark that stays because the connection is gone counts as one death, and no entry is guilty by a single one.
    await this.#redis.hDel(this.#key, id).catch(() => 0)
  }
}

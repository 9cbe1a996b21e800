/**
 * Finds the entry that kills its consumer.
 *
 * Redis counts deliveries, but a high count alone proves nothing: everything that was in hand when the process died is delivered again, and
 * restarts during an outage raise it too. So an entry that was there often is worked on alone: no other batch of this process runs beside it. Only
 * deaths right after that beginning are held against it; who lives on for a while, yields its turn, or ends in another way, clears it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { classified, type Redis } from './connection.ts'
import type { GroupAddress } from './entries.ts'
import { runScript, scripts } from './scripts.ts'

/** From this delivery on an entry is worked on alone. */
const SUSPECT_DELIVERIES = 4
/** A suspect with which the process died this often is guilty. */
const DEATHS_MAX = 3
/** Work that lasts longer than this without blocking the process does not kill it: it waits for something, such as a database. */
const SURVIVED_MS = 2_000
/** Marks of entries that somebody else finished go by themselves. */
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

  /** The entry on trial is not guilty, or dealt with. One that was found guilty is not on trial any more. */
  async clear(): Promise<void> {
    if (!this.#onTrial) return
    const { id, survived } = this.#onTrial
    this.#onTrial = undefined
    survived.abort()
    await this.forget({ id })
  }

  /** Only when it is buried: one that waits for that through a restart stays guilty. */
  async forget({ id }: { id: string }): Promise<void> {
    // A mark that stays for want of a connection counts as one death: there must be more of them.
    await this.#redis.hDel(this.#key, id).catch(() => 0)
  }
}

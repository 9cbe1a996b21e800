/**
 * How the room for dead letters is shared. The letters of all owners (`host-owner.ts`) have room for 100,000 together,
 * and when they are full the stream stops. One host may have more accounts than that, and answer garbage for all of
 * them. So the letters of one owner take at most an eighth of the room that others leave free, or one letter.
 *
 * A repository that finds no room is set aside: its entry ends without a letter, and is counted by host and reason.
 * Nothing is lost: what the chain records say of the account stays, so it still counts as missing or behind, and is
 * requested again by the next sweep, by its next commit, or by `sluice backfill host`.
 *
 * The counts are in Redis, for all backfillers together. They are only as exact as they need to be: letters that an
 * operator retries or drops are noticed a few at a time.
 */
import { webHostOf } from '@sluice/atproto/did-web.ts'
import { ownerOf } from '@sluice/atproto/host-owner.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { lettersOfKey, setAsideKey, SET_ASIDE_OTHERS } from '@sluice/streams/backfill-queue.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { DEAD_LETTERS_MAX, deadLetterStream, latestLetters } from '@sluice/streams/dead-letters.ts'
import { loadScript, runScript } from '@sluice/streams/scripts.ts'
import type { DeadReason } from './failures.ts'
import { HOST_KEPT_MS } from './pds-limits.ts'

const share = loadScript(new URL('lua/letter-share.lua', import.meta.url))

/** One owner may have this part of the free room. */
const PART_OF_FREE = 8
/** By so many names (host and reason) repositories that are set aside are counted; the rest under one name. */
const NAMES_MAX = 1_000
/** The name of a host has at most so many characters. An entry may name anything. */
const HOST_CHARS = 253

/** Who is to blame when a repository is given up. */
export interface Blamed {
  host: string
  owner: string
}

/**
 * Who is to blame for an entry that is given up.
 * @param host the host that was asked for the repository. Absent when it came to no such question: then the host of a
 * did:web's document, or the host that has listed the account, which shares nothing with the owner of repositories
 */
export function blamedFor({ did, host: listedAt }: BackfillEvent, host?: string): Blamed {
  if (host !== undefined) return { host, owner: ownerOf(host) }
  const web = webHostOf(did)?.slice(0, HOST_CHARS)
  if (web !== undefined) return { host: web, owner: ownerOf(web) }
  const name = listedAt.slice(0, HOST_CHARS)
  return { host: name, owner: `lists ${name}` }
}

export class LetterShares {
  readonly #redis: Redis
  readonly #lettersMax: number

  constructor(redis: Redis, { lettersMax = DEAD_LETTERS_MAX } = {}) {
    this.#redis = redis
    this.#lettersMax = lettersMax
  }

  /**
   * Whether a repository that is given up may have a dead letter. Otherwise it is counted as set aside.
   * @returns 0 when it may; else how many repositories of that host are set aside for that reason now
   * @throws TransientError
   */
  async ask(stream: string, did: string, { host, owner }: Blamed, reason: DeadReason): Promise<number> {
    const letters = deadLetterStream(stream)
    const keys = [lettersOfKey(stream, owner), letters, latestLetters(stream), setAsideKey(stream)]
    const numbers = [this.#lettersMax, PART_OF_FREE, HOST_KEPT_MS].map(String)
    const args = [did, ...numbers, `${host} ${reason}`, String(NAMES_MAX), SET_ASIDE_OTHERS]
    return Number(await classified(runScript(this.#redis, share, keys, args)))
  }
}

/**
 * The cursor of one host of labels, and whose labels it stands for.
 *
 * A host may send the labels of several labelers that declared themselves, and these are found one after the other.
 * Only their labels count. So the cursor means something only together with the list of these labelers. The list is
 * kept beside the cursor (`<stream>:labelers:<host>`) and moves with it: up to the cursor, no label of a labeler on the
 * list was skipped. When a labeler joins the list, the cursor begins at 0 again; labels that come twice change nothing.
 * A labeler that no longer declares itself leaves the list in the step that skips the first of its labels.
 */
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import { TransientError } from '@sluice/runtime/errors.ts'
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { cursorKey, readCursor } from '@sluice/streams/cursors.ts'
import { CursorConflictError, type Producer } from '@sluice/streams/producer.ts'

export interface LabelCursorOptions {
  redis: Redis
  producer: Producer<LabelStreamEvent>
  host: string
  /** The first labeler that was found at the host. Undefined: the host was configured, and the labels of all count. */
  did: string | undefined
}

export class LabelCursor {
  /** Up to where labels have been read. The next `append` moves the cursor there. */
  position = 0
  readonly #redis: Redis
  readonly #producer: Producer<LabelStreamEvent>
  readonly #isConfigured: boolean
  readonly #key: string
  readonly #listKey: string
  /** The labelers that were found to send labels from this host; empty for one that was configured. */
  readonly #found: Set<string>
  /**
   * The labelers whose labels count on this connection: the list as it is in Redis, less those that have left it since
   * the cursor last moved.
   */
  #list = new Set<string>()
  #isListStale = false
  /** The cursor as it is in Redis. */
  #stored: string | null = null

  constructor({ redis, producer, host, did }: LabelCursorOptions) {
    this.#redis = redis
    this.#producer = producer
    this.#isConfigured = did === undefined
    this.#key = cursorKey(producer.stream, host)
    this.#listKey = `${producer.stream}:labelers:${host}`
    this.#found = new Set(did === undefined ? [] : [did])
  }

  /** The labelers whose labels count on this connection. Undefined: the labels of all count. */
  get labelers(): ReadonlySet<string> | undefined {
    return this.#isConfigured ? undefined : this.#list
  }

  /** Whether a labeler was included whose labels are skipped on this connection. */
  get skipsIncluded(): boolean {
    return [...this.#found].some((did) => !this.#list.has(did))
  }

  /**
   * Includes one more labeler, from the next connection on.
   * @returns whether it is new
   */
  include(did: string): boolean {
    if (this.#found.has(did)) return false
    this.#found.add(did)
    return true
  }

  /** Takes a labeler from the list. If it declares itself again, it is found again. */
  exclude(did: string): void {
    this.#found.delete(did)
    this.#list.delete(did)
    this.#isListStale = true
  }

  /**
   * Decides from where the next connection reads, and whose labels count.
   * @throws TransientError, FatalError (CursorConflictError when another process moves the cursor)
   */
  async begin(signal: AbortSignal): Promise<void> {
    this.#stored = await readCursor(this.#redis, this.#key)
    const listed = await readList(this.#redis, this.#listKey)
    // On a host that was configured the labels of all count, so there is no list. If Redis has one, the host was found
    // before, and labels of others were skipped.
    this.#list = new Set(this.#isConfigured ? [] : [...listed, ...this.#found])
    this.#isListStale = this.#list.size !== listed.length
    if (this.#isListStale) await this.#move([], '0', signal)
    this.position = /^\d+$/.test(this.#stored ?? '') ? Number(this.#stored) : 0
  }

  /**
   * Appends labels, and moves cursor and list with them, in one step.
   * @throws TransientError, FatalError (CursorConflictError when another process moves the cursor)
   */
  async append(events: readonly LabelStreamEvent[], signal: AbortSignal): Promise<void> {
    const to = String(this.position)
    // The list is compared too: a labeler that was set up anew may reach the number that it had before.
    if (to === this.#stored && events.length === 0 && !this.#isListStale) return
    await this.#move(events, to, signal)
  }

  async #move(events: readonly LabelStreamEvent[], to: string, signal: AbortSignal): Promise<void> {
    const list = { step: 'set', key: this.#listKey, value: JSON.stringify([...this.#list]) } as const
    const also = this.#isListStale ? [list] : []
    try {
      await this.#producer.append(events, signal, { cursor: { key: this.#key, from: this.#stored, to }, also })
    } catch (error) {
      if (!(error instanceof CursorConflictError)) throw error
      // The cursor is lower or absent: Redis has gone back in time, and the labels since then are read again.
      if (Number(error.found ?? 0) > Number(this.#stored ?? 0)) throw error
      throw new TransientError(`${this.#key} has gone back to ${error.found ?? 'nothing'}`, { cause: error })
    }
    this.#stored = to
    this.#isListStale = false
  }
}

/**
 * The list in Redis. Empty when there is none that can be read: then all labels are read again.
 * @throws TransientError, FatalError
 */
async function readList(redis: Redis, key: string): Promise<string[]> {
  try {
    const list: unknown = JSON.parse((await redis.get(key)) ?? '[]')
    return Array.isArray(list) ? list.filter((did) => typeof did === 'string') : []
  } catch (error) {
    if (error instanceof SyntaxError) return []
    throw classifyRedisError(error)
  }
}

/** What the events said, in their order: what is left of it in the rows does not tell whether something was edited, or came late. */
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'

interface Life {
  /** Revs of the first and the last version that could be indexed. */
  first: string
  last: string
  /** What the last one answers, and what it is about. */
  parent: string | undefined
  root: string | undefined
  subject: unknown
  cid: string
  /** The last one was written again as it was. */
  rewritten: boolean
  /** Who says what of whom: two records with the same pair are duplicates. */
  pair: string
}

interface Referring {
  reply?: { parent?: { uri?: string }; root?: { uri?: string } }
  subject?: string | { uri?: string }
  list?: string
}

export class Happened {
  /** Records that were written again, and that were deleted, by URI. */
  readonly edited = new Set<string>()
  readonly removed = new Set<string>()
  /** Accounts that were deleted. */
  readonly deleted = new Set<string>()
  /** Who muted which thread: DID and URI. */
  readonly muted = new Set<string>()
  readonly #lives = new Map<string, Life>()

  /** @param refused URI and rev of the versions that could not be indexed */
  note(events: readonly StreamEvent[], refused: ReadonlySet<string>): void {
    for (const event of events) {
      if (event.type === 'account' && event.status === 'deleted') this.deleted.add(event.did)
      if (event.type === 'delete') this.removed.add(uriOf(event))
      if (event.type === 'update') this.edited.add(uriOf(event))
      if (event.type !== 'create' && event.type !== 'update') continue
      const uri = uriOf(event)
      if (refused.has(`${uri} ${event.rev}`)) continue
      const { reply, subject, list } = event.record as Referring
      const before = this.#lives.get(uri)
      const { cid, rev } = event
      const pair = JSON.stringify([
        event.did,
        event.collection,
        typeof subject === 'object' ? subject.uri : subject,
        list,
      ])
      const rewritten = event.type === 'update' && before?.cid === cid
      const [parent, root] = [reply?.parent?.uri, reply?.root?.uri]
      this.#lives.set(uri, { first: before?.first ?? rev, last: rev, parent, root, subject, cid, rewritten, pair })
    }
  }

  /** As it is now; later events do not change it. */
  copy(): Happened {
    const copy = new Happened()
    for (const set of ['edited', 'removed', 'deleted', 'muted'] as const)
      for (const item of this[set]) copy[set].add(item)
    for (const [uri, life] of this.#lives) copy.#lives.set(uri, life)
    return copy
  }

  /** The root of the thread that a post was in, as its last version said. */
  rootOf(uri: string): string {
    return this.#lives.get(uri)?.root ?? uri
  }

  /** The last version of a record that could be indexed, of one that is gone too. */
  lastOf(uri: unknown): Pick<Life, 'subject' | 'cid' | 'rewritten'> | undefined {
    return this.#lives.get(String(uri))
  }

  /** Whether another record of the account said the same. */
  hadTwin(uri: string): boolean {
    const pair = this.#lives.get(uri)?.pair
    return pair !== undefined && [...this.#lives].some(([other, life]) => other !== uri && life.pair === pair)
  }

  /** Whether two records say the same of the same. */
  saysTheSame(uri: string, other: string): boolean {
    const pair = this.#lives.get(uri)?.pair
    return pair !== undefined && pair === this.#lives.get(other)?.pair
  }

  /** Whether the reply, or one above it that it hangs on, came before something above. */
  hangsOnWhatCameTooSoon(uri: string): boolean {
    for (let at: string | undefined = uri, height = 0; at !== undefined && height < 20; height++) {
      if (this.cameBeforeItsThread(at)) return true
      at = this.#lives.get(at)?.parent
    }
    return false
  }

  /** Whether something above the reply was first there after the reply was. */
  cameBeforeItsThread(uri: string): boolean {
    const written = this.#lives.get(uri)?.last
    if (written === undefined) return false
    for (let at = this.#lives.get(uri)?.parent, height = 0; at !== undefined && height < 20; height++) {
      const above = this.#lives.get(at)
      if (above && above.first > written) return true
      at = above?.parent
    }
    return false
  }
}

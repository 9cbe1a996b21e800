/** What the events said, in their order. The rows alone do not tell whether something was edited, or came late. */
import { uriOf, type StreamEvent } from '@sluice/events/stream-event.ts'

interface Life {
  /** The rev of the first version that could be indexed since the record was last deleted, and of the last version. */
  first: string
  last: string
  isGone: boolean
  /** How many versions could be indexed. */
  versions: number
  /** The parent that the last version answers, and those that any version answered. */
  parent: string | undefined
  parents: readonly string[]
  /** The thread and the subject of the last version. */
  root: string | undefined
  subject: unknown
  cid: string
  /** The CIDs of all versions. */
  cids: readonly string[]
  /** The last version has the content of an earlier one. */
  rewritten: boolean
  /** Who says what of whom. Two records with the same pair are duplicates. */
  pair: string
}

interface Referring {
  reply?: { parent?: { uri?: string }; root?: { uri?: string } }
  subject?: string | { uri?: string }
  list?: string
}

export class Happened {
  /** By URI, records that were written again, and records that were deleted. */
  readonly edited = new Set<string>()
  readonly removed = new Set<string>()
  /** Accounts that were deleted. */
  readonly deleted = new Set<string>()
  /** Muted threads, as `DID URI`. */
  readonly muted = new Set<string>()
  readonly #lives = new Map<string, Life>()

  /**
   * Notes events.
   * @param refused URI and rev of the versions that could not be indexed
   */
  note(events: readonly StreamEvent[], refused: ReadonlySet<string>): void {
    for (const event of events) {
      if (event.type === 'account' && event.status === 'deleted') this.deleted.add(event.did)
      if (event.type === 'delete') this.#end(uriOf(event))
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
      const rewritten = event.type === 'update' && before !== undefined && before.cids.includes(cid)
      const cids = [...(before?.cids ?? []), cid]
      const [parent, root] = [reply?.parent?.uri, reply?.root?.uri]
      const first = before && !before.isGone ? before.first : rev
      const parents = [...(before?.parents ?? []), ...(parent === undefined ? [] : [parent])]
      const versions = (before?.versions ?? 0) + 1
      const life = {
        first,
        last: rev,
        isGone: false,
        versions,
        parent,
        parents,
        root,
        subject,
        cid,
        cids,
        rewritten,
        pair,
      }
      this.#lives.set(uri, life)
    }
  }

  #end(uri: string): void {
    this.removed.add(uri)
    const life = this.#lives.get(uri)
    if (life) this.#lives.set(uri, { ...life, isGone: true })
  }

  /** A copy of the present state, which later events do not change. */
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

  /** The last version of a record that could be indexed, also if the record is gone. */
  lastOf(uri: unknown): Pick<Life, 'parent' | 'subject' | 'cid' | 'rewritten'> | undefined {
    return this.#lives.get(String(uri))
  }

  /** Whether another record of the account said the same. */
  hadTwin(uri: string): boolean {
    const pair = this.#lives.get(uri)?.pair
    return pair !== undefined && [...this.#lives].some(([other, life]) => other !== uri && life.pair === pair)
  }

  /** Whether two records say the same. */
  saysTheSame(uri: string, other: string): boolean {
    const pair = this.#lives.get(uri)?.pair
    return pair !== undefined && pair === this.#lives.get(other)?.pair
  }

  /** Whether the reply, or a reply above it, was written before something above that. */
  hangsOnWhatCameTooSoon(uri: string): boolean {
    return [uri, ...this.#above(uri)].some((post) => this.cameBeforeItsThread(post))
  }

  /** Whether something above the reply was first written after the reply. */
  cameBeforeItsThread(uri: string): boolean {
    const written = this.#lives.get(uri)?.last
    return written !== undefined && this.#above(uri).some((post) => (this.#lives.get(post)?.first ?? '') > written)
  }

  /** Whether a post between the two was written more than once. */
  cameAboveByAnEdit(above: string, uri: string): boolean {
    const between = this.#above(uri).filter((post) => this.#above(post).includes(above))
    return between.some((post) => this.#lives.get(post)!.versions > 1)
  }

  /** Every post that a version of the reply was below. */
  #above(uri: string): string[] {
    const found = new Set<string>()
    const add = (parents: readonly string[]): void => {
      for (const parent of parents) {
        if (found.has(parent)) continue
        found.add(parent)
        add(this.#lives.get(parent)?.parents ?? [])
      }
    }
    add(this.#lives.get(uri)?.parents ?? [])
    return [...found]
  }
}

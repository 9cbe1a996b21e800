/**
 * Which notifications must exist at the end of a history without gates and mutes: the rules written a second time, from
 * the history alone. Nothing here knows of the engine or of the plugins.
 */
import { didOfUri, uriOf, type CreateEvent, type RecordEvent, type UpdateEvent } from '@sluice/events/stream-event.ts'

type Written = CreateEvent | UpdateEvent
interface Ref {
  uri: string
}
interface Record {
  subject?: Ref | string
  via?: Ref
  reply?: { parent: Ref }
  facets?: { features: { did?: string }[] }[]
  embed?: { record?: Ref & { record?: Ref } }
  joinedViaStarterPack?: Ref
  list?: string
}

const LEVELS = 4
const TWICE = /^app\.bsky\.(feed\.(like|repost)|graph\.(follow|verification))$/

/** Returns lines `did reason record`, sorted. Of verifications, only those that live have lines. */
export function expectedNotifications(events: readonly RecordEvent[]): string[] {
  const past = new Past(events)
  return [...past.living.values()]
    .filter((event) => past.counts(event))
    .flatMap((event) => linesOf(event, past))
    .sort()
}

class Past {
  readonly living = new Map<string, Written>()
  /**
   * Every post that ever existed: its versions in order, each with the post that it answered and the rev that ended it.
   */
  readonly #posts = new Map<string, Version[]>()
  readonly #first = new Map<string, string>()

  constructor(events: readonly RecordEvent[]) {
    for (const event of events) {
      const uri = uriOf(event)
      if (event.type === 'delete') {
        this.living.delete(uri)
        this.#end(uri, event.rev)
      } else {
        this.living.set(uri, event)
        if (event.collection !== 'app.bsky.feed.post') continue
        this.#end(uri, event.rev)
        const version: Version = { parent: (event.record as Record).reply?.parent.uri }
        this.#posts.set(uri, [...(this.#posts.get(uri) ?? []), version])
      }
    }
    for (const [uri, event] of this.living) {
      const key = pairOf(event)
      const first = this.#first.get(key)
      if (first === undefined || uri < first) this.#first.set(key, uri)
    }
  }

  /** Whether the record counts: of several that say the same, only the first one made does. */
  counts(event: Written): boolean {
    return !TWICE.test(event.collection) || this.#first.get(pairOf(event)) === uriOf(event)
  }

  #end(uri: string, rev: string): void {
    const last = this.#posts.get(uri)?.at(-1)
    if (last) last.until ??= rev
  }

  /**
   * The posts above, nearest first, each in the version that counts at the time of the event: the one in force then, or
   * else the first later one.
   */
  above(event: Written): string[] {
    const line: string[] = []
    let uri = (event.record as Record).reply?.parent.uri
    while (uri !== undefined && line.length < LEVELS) {
      const open: Version[] = (this.#posts.get(uri) ?? []).filter(
        ({ until }) => until === undefined || until > event.rev,
      )
      if (open.length === 0) break
      line.push(uri)
      uri = open[0]!.parent
    }
    return line
  }
}

interface Version {
  until?: string
  parent: string | undefined
}

function pairOf({ collection, did, record }: Written): string {
  const { subject } = record as Record
  return `${collection} ${did} ${typeof subject === 'string' ? subject : subject?.uri}`
}

function linesOf(event: Written, past: Past): string[] {
  const record = event.record as Record
  const line = (did: string, reason: string): string => `${did} ${reason} ${uriOf(event)}`
  const others = (...told: [did: string, reason: string][]): string[] => {
    const heard = new Set([event.did])
    return told.flatMap(([did, reason]) => (heard.has(did) ? [] : (heard.add(did), [line(did, reason)])))
  }
  switch (event.collection) {
    case 'app.bsky.feed.like':
    case 'app.bsky.feed.repost': {
      const kind = event.collection.slice('app.bsky.feed.'.length)
      const author = didOfUri((record.subject as Ref).uri)
      if (author === event.did) return []
      const via = record.via && didOfUri(record.via.uri)
      return [line(author, kind), ...(via !== undefined && via !== event.did ? [line(via, `${kind}-via-repost`)] : [])]
    }
    case 'app.bsky.graph.follow':
      return [line(record.subject as string, 'follow')]
    case 'app.bsky.graph.verification':
      return [line(record.subject as string, 'verified')]
    case 'app.bsky.actor.profile':
      return record.joinedViaStarterPack ? [line(didOfUri(record.joinedViaStarterPack.uri), 'starterpack-joined')] : []
    case 'app.bsky.feed.post': {
      const mentioned = (record.facets ?? []).flatMap(({ features }) => features.flatMap(({ did }) => did ?? []))
      const quoted = record.embed?.record && (record.embed.record.record ?? record.embed.record)
      return others(
        ...mentioned.map((did): [string, string] => [did, 'mention']),
        ...(quoted ? [[didOfUri(quoted.uri), 'quote'] as [string, string]] : []),
        ...past.above(event).map((uri): [string, string] => [didOfUri(uri), 'reply']),
      )
    }
    default:
      return []
  }
}

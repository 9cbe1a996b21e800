/**
 * The traffic of a network, made up: events in natural order with the mix, the skew and the sizes of the real one, the
 * same for the same seed.
 *
 * 55 % likes, 12 % posts (40 % replies, 25 % with embeds), 12 % follows, 7 % reposts, 8 % deletions, 3 % blocks, the
 * rest lists, list items, profiles and gates. Subjects follow Zipf's law: the most liked post has 1–2 % of all likes.
 * CIDs are well formed but not those of the records: the indexer does not compare them.
 */
import { rkeyOfUri, uriOf, type JsonRecord, type RecordEvent } from '@sluice/events/stream-event.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { Random } from './random.ts'

export interface LoadOptions {
  seed: number
  /** Default 20,000. */
  accounts?: number
}

interface Ref {
  uri: string
  cid: string
}

interface Post extends Ref {
  did: string
  root: Ref | undefined
}

const MIX = {
  like: 55,
  post: 12,
  follow: 12,
  repost: 7,
  delete: 8,
  block: 3,
  listitem: 1.4,
  profile: 0.8,
  list: 0.4,
  threadgate: 0.4,
} as const

/** How many posts can still get replies and likes. Older posts get no more. */
const TALK_MAX = 20_000
const DELETABLE_MAX = 50_000
const EPOCH_MICROS = Date.parse('2026-01-01T00:00:00.000Z') * 1000
const LETTERS = 'abcdefghijklmnopqrstuvwxyz234567'

export class Load {
  readonly #random: Random
  readonly #dids: string[]
  #posts: Post[] = []
  #lists = new Map<string, Ref[]>()
  #deletable: { did: string; collection: string; rkey: string }[] = []
  /**
   * Pairs of account and subject that exist already (likes, follows, …): a second record of one pair is rare on the
   * network.
   */
  #pairs = new Set<string>()
  #micros = EPOCH_MICROS
  #seq = 0

  constructor({ seed, accounts = 20_000 }: LoadOptions) {
    this.#random = new Random(seed)
    this.#dids = Array.from({ length: accounts }, () => `did:plc:${this.#letters(24)}`)
  }

  /** The next `count` events. */
  take(count: number): RecordEvent[] {
    const events: RecordEvent[] = []
    while (events.length < count) {
      const event = this.#next()
      if (event) events.push(event)
    }
    return events
  }

  #next(): RecordEvent | undefined {
    const did = this.#zipfDid()
    switch (this.#random.weighted(MIX)) {
      case 'like':
        return this.#aboutPost(did, 'like')
      case 'repost':
        return this.#aboutPost(did, 'repost')
      case 'post':
        return this.#post(did)
      case 'follow':
        return this.#aboutAccount(did, 'app.bsky.graph.follow')
      case 'block':
        return this.#aboutAccount(did, 'app.bsky.graph.block')
      case 'list':
        return this.#list(did)
      case 'listitem':
        return this.#listItem()
      case 'profile':
        return this.#create(
          did,
          'app.bsky.actor.profile',
          { displayName: 'Some One', description: this.#text(80) },
          'self',
        )
      case 'threadgate':
        return this.#threadgate()
      case 'delete':
        return this.#delete()
    }
  }

  #aboutPost(did: string, kind: 'like' | 'repost'): RecordEvent | undefined {
    const post = this.#zipfPost()
    if (!post || !this.#first(`${kind} ${did} ${post.uri}`)) return undefined
    return this.#create(did, `app.bsky.feed.${kind}`, { subject: { uri: post.uri, cid: post.cid } })
  }

  #aboutAccount(did: string, collection: string): RecordEvent | undefined {
    const subject = this.#zipfDid()
    return subject !== did && this.#first(`${collection} ${did} ${subject}`)
      ? this.#create(did, collection, { subject })
      : undefined
  }

  #post(did: string): RecordEvent {
    const parent = this.#random.chance(0.4) ? this.#zipfPost() : undefined
    const root = parent && (parent.root ?? { uri: parent.uri, cid: parent.cid })
    const reply = parent && { reply: { root, parent: { uri: parent.uri, cid: parent.cid } } }
    const embed = this.#random.chance(0.25) ? { embed: this.#embed() } : {}
    const facets = this.#random.chance(0.05) ? { facets: [this.#mention()] } : {}
    const event = this.#create(did, 'app.bsky.feed.post', {
      text: this.#text(120),
      langs: ['en'],
      ...reply,
      ...embed,
      ...facets,
    })
    this.#posts.push({ uri: uriOf(event), cid: event.cid, did, root })
    if (this.#posts.length > TALK_MAX) this.#posts = this.#posts.slice(TALK_MAX / 4)
    return event
  }

  #embed(): object {
    const quoted = this.#random.chance(0.3) ? this.#zipfPost() : undefined
    if (quoted) return { $type: 'app.bsky.embed.record', record: { uri: quoted.uri, cid: quoted.cid } }
    if (this.#random.chance(0.3)) {
      return {
        $type: 'app.bsky.embed.external',
        external: {
          uri: `https://example.com/${this.#letters(12)}`,
          title: this.#text(40),
          description: this.#text(90),
        },
      }
    }
    const image = { $type: 'blob', ref: { $link: this.#cid('bafkrei') }, mimeType: 'image/jpeg', size: 314_159 }
    return {
      $type: 'app.bsky.embed.images',
      images: [{ image, alt: this.#text(30), aspectRatio: { width: 4, height: 3 } }],
    }
  }

  #mention(): object {
    return {
      index: { byteStart: 0, byteEnd: 6 },
      features: [{ $type: 'app.bsky.richtext.facet#mention', did: this.#zipfDid() }],
    }
  }

  #list(did: string): RecordEvent {
    const event = this.#create(did, 'app.bsky.graph.list', {
      name: this.#text(20),
      purpose: 'app.bsky.graph.defs#curatelist',
    })
    const ref = { uri: uriOf(event), cid: event.cid }
    this.#lists.set(did, [...(this.#lists.get(did) ?? []), ref])
    return event
  }

  #listItem(): RecordEvent | undefined {
    const owners = [...this.#lists.keys()]
    if (owners.length === 0) return undefined
    const did = this.#random.pick(owners)
    const list = this.#random.pick(this.#lists.get(did)!).uri
    const subject = this.#zipfDid()
    return this.#first(`item ${list} ${subject}`)
      ? this.#create(did, 'app.bsky.graph.listitem', { list, subject })
      : undefined
  }

  #threadgate(): RecordEvent | undefined {
    const post = this.#posts.at(-1 - this.#random.below(50))
    if (!post || post.root || !this.#first(`gate ${post.uri}`)) return undefined
    const allow = [{ $type: 'app.bsky.feed.threadgate#followingRule' }]
    return this.#create(post.did, 'app.bsky.feed.threadgate', { post: post.uri, allow }, rkeyOfUri(post.uri))
  }

  /** Deletes a record: mostly a recent one, sometimes the last one. */
  #delete(): RecordEvent | undefined {
    if (this.#deletable.length === 0) return undefined
    const back = Math.floor(this.#random.next() ** 2 * Math.min(this.#deletable.length, DELETABLE_MAX))
    const [gone] = this.#deletable.splice(this.#deletable.length - 1 - back, 1)
    return { type: 'delete', ...this.#commit(gone!.did), collection: gone!.collection, rkey: gone!.rkey }
  }

  #create(did: string, collection: string, content: object, key?: string): RecordEvent & { type: 'create' } {
    const rkey = key ?? this.#tid()
    const createdAt = this.#time()
    const record: JsonRecord = { $type: collection, ...content, createdAt }
    if (key === undefined) {
      this.#deletable.push({ did, collection, rkey })
      if (this.#deletable.length > DELETABLE_MAX * 2) this.#deletable = this.#deletable.slice(DELETABLE_MAX)
    }
    return { type: 'create', ...this.#commit(did), collection, rkey, cid: this.#cid(), record }
  }

  #commit(did: string) {
    return { seq: ++this.#seq, time: this.#time(), did, commit: this.#cid(), rev: this.#tid() }
  }

  /** An index below n, drawn by Zipf's law: the pth item in proportion to 1/p. */
  #zipf(n: number): number {
    return Math.min(n - 1, Math.floor(n ** this.#random.next()) - 1)
  }

  #zipfPost(): Post | undefined {
    return this.#posts[this.#zipf(this.#posts.length)]
  }

  #zipfDid(): string {
    // Half of the actions are by accounts drawn by Zipf's law, half by any account.
    return this.#dids[this.#random.chance(0.5) ? this.#zipf(this.#dids.length) : this.#random.below(this.#dids.length)]!
  }

  #first(pair: string): boolean {
    if (this.#pairs.has(pair)) return false
    this.#pairs.add(pair)
    if (this.#pairs.size > 4_000_000) this.#pairs.clear()
    return true
  }

  #tid(): string {
    this.#micros += 1 + this.#random.below(1_000)
    return tidFromMicros(this.#micros, 31)
  }

  #time(): string {
    return new Date(this.#micros / 1000).toISOString()
  }

  /**
   * A well-formed CID: the first character after the prefix has two bits that belong to the prefix, and the last two
   * bits of the last character must be zero.
   */
  #cid(prefix = 'bafyrei'): string {
    return prefix + LETTERS[this.#random.below(8)] + this.#letters(50) + LETTERS[this.#random.below(8) * 4]
  }

  #letters(count: number): string {
    let text = ''
    for (let i = 0; i < count; i++) text += LETTERS[this.#random.below(32)]
    return text
  }

  #text(chars: number): string {
    return 'lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore magna aliqua '
      .repeat(2)
      .slice(0, Math.max(1, this.#random.below(chars * 2)))
      .trim()
  }
}

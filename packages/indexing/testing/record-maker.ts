/**
 * What accounts of a small network may write next: valid records of every collection about what exists, and later
 * versions of them. Few accounts and few posts are named again and again, so that everything meets everything; now and
 * then a record names what is gone. Who writes what, and when, is decided by `history.ts` and `world.ts`.
 */
import type { JsonRecord } from '@sluice/events/stream-event.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import { mediaEmbed, mention, recordEmbed } from './embeds.ts'
import { blob, ref } from './made-up.ts'

export interface Living {
  did: string
  collection: string
  rkey: string
  uri: string
  cid: string
  record: JsonRecord
}

/** A new record of each kind. */
export type Making =
  | 'post'
  | 'reply'
  | 'quote'
  | 'like'
  | 'repost'
  | 'follow'
  | 'block'
  | 'list'
  | 'listitem'
  | 'listblock'
  | 'threadgate'
  | 'postgate'
  | 'profile'
  | 'starterpack'
  | 'verification'
  | 'generator'
  | 'labeler'
  | 'optout'
  | 'status'

export interface Made {
  collection: string
  /** The record key. Absent: a new one. */
  rkey?: string
  record: Record<string, unknown>
}

/**
 * Collections whose records relate an account to something (it likes a post, follows an account), each with the act
 * that makes one. A second record of the same relation is a duplicate.
 */
export const PAIRS: Readonly<Record<string, Making>> = {
  'app.bsky.feed.like': 'like',
  'app.bsky.feed.repost': 'repost',
  'app.bsky.graph.follow': 'follow',
  'app.bsky.graph.block': 'block',
  'app.bsky.graph.listitem': 'listitem',
  'app.bsky.graph.listblock': 'listblock',
  'app.bsky.graph.verification': 'verification',
  'app.bsky.graph.referencelistoptout': 'optout',
}

export interface RecordMakerOptions {
  random: Random
  dids: readonly string[]
  /** How many events there are. Texts contain the number, so that each text is different. */
  count: () => number
  /** The date of a record that is made now. */
  now: () => string
  /** Whether verifications are edited too. */
  editsVerifications: boolean
  /** Whether posts that are edited or written anew may move to another thread, or out of one. */
  movesThreads?: boolean
}

export class RecordMaker {
  /** What exists, in the order in which it was written. */
  living: Living[] = []
  /** Everything that ever existed: what is gone may still be answered, liked and named. */
  readonly ever: Living[] = []
  /** By URI, the parents that any version of a post has answered. */
  readonly #above = new Map<string, string[]>()
  readonly #random: Random
  readonly #dids: readonly string[]
  readonly #count: () => number
  readonly #now: () => string
  readonly #editsVerifications: boolean
  readonly #movesThreads: boolean

  constructor({ random, dids, count, now, editsVerifications, movesThreads = false }: RecordMakerOptions) {
    this.#random = random
    this.#dids = dids
    this.#count = count
    this.#now = now
    this.#editsVerifications = editsVerifications
    this.#movesThreads = movesThreads
  }

  /** Stores a record. Returns whether it replaces one. */
  put(made: Living): boolean {
    const existed = this.living.some(({ uri }) => uri === made.uri)
    this.remove(made.uri)
    this.living.push(made)
    this.ever.push(made)
    const { reply } = made.record as { reply?: { parent: { uri: string } } }
    if (reply) this.#above.set(made.uri, [...(this.#above.get(made.uri) ?? []), reply.parent.uri])
    return existed
  }

  remove(gone: string): void {
    this.living = this.living.filter(({ uri }) => uri !== gone)
  }

  /** The records that do not exist now. */
  gone(): Living[] {
    const living = new Set(this.living.map(({ uri }) => uri))
    return this.ever.filter(({ uri }) => !living.has(uri))
  }

  /** Makes a record. Undefined: nothing exists that it could be about. */
  make(making: Making, did: string): Made | undefined {
    const other = this.#random.pick(this.#dids)
    switch (making) {
      case 'post':
        return { collection: 'app.bsky.feed.post', record: this.#post() }
      case 'reply':
        return this.#reply()
      case 'quote':
        return this.#withPost((ref) => ({
          collection: 'app.bsky.feed.post',
          record: { ...this.#post(), embed: recordEmbed(this.#random, ref) },
        }))
      case 'like':
        return this.#withPost((subject) => ({ collection: 'app.bsky.feed.like', record: { subject, ...this.#via() } }))
      case 'repost':
        return this.#withPost((subject) => ({
          collection: 'app.bsky.feed.repost',
          record: { subject, ...this.#via() },
        }))
      case 'follow':
        return { collection: 'app.bsky.graph.follow', record: { subject: other } }
      case 'block':
        return { collection: 'app.bsky.graph.block', record: { subject: other } }
      case 'list':
        return {
          collection: 'app.bsky.graph.list',
          record: { name: 'a list', purpose: 'app.bsky.graph.defs#curatelist', description: 'of some' },
        }
      case 'listitem':
        return this.#withOwn(did, 'app.bsky.graph.list', ({ uri }) => ({
          collection: 'app.bsky.graph.listitem',
          record: { list: uri, subject: other },
        }))
      case 'listblock':
        return this.#with('app.bsky.graph.list', ({ uri }) => ({
          collection: 'app.bsky.graph.listblock',
          record: { subject: uri },
        }))
      case 'threadgate':
        return this.#withOwn(did, 'app.bsky.feed.post', (post) => this.gateOf(post))
      case 'postgate':
        return this.#withOwn(did, 'app.bsky.feed.post', (post) => ({
          collection: 'app.bsky.feed.postgate',
          rkey: post.rkey,
          record: { post: post.uri, embeddingRules: [{ $type: 'app.bsky.feed.postgate#disableRule' }] },
        }))
      case 'profile':
        return { collection: 'app.bsky.actor.profile', rkey: 'self', record: this.#profile() }
      case 'starterpack':
        return this.#withOwn(did, 'app.bsky.graph.list', ({ uri }) => ({
          collection: 'app.bsky.graph.starterpack',
          record: { name: 'a pack', list: uri },
        }))
      case 'verification':
        return {
          collection: 'app.bsky.graph.verification',
          record: { subject: other, handle: 'someone.test', displayName: 'Someone' },
        }
      case 'generator':
        return { collection: 'app.bsky.feed.generator', record: { did: 'did:web:feed.test', displayName: 'a feed' } }
      case 'labeler':
        return { collection: 'app.bsky.labeler.service', rkey: 'self', record: { policies: { labelValues: ['spam'] } } }
      case 'optout':
        return this.#with('app.bsky.graph.list', ({ uri }) => ({
          collection: 'app.bsky.graph.referencelistoptout',
          record: { subject: uri },
        }))
      case 'status':
        return {
          collection: 'app.bsky.actor.status',
          rkey: 'self',
          record: { status: 'app.bsky.actor.status#live', durationMinutes: 5 },
        }
    }
  }

  #post(): Record<string, unknown> {
    const facets = this.#random.chance(0.3) ? { facets: [mention(this.#random.pick(this.#dids))] } : {}
    const langs = this.#random.chance(0.3) ? { langs: ['en', 'de'] } : {}
    const embed = this.#random.chance(0.2) ? { embed: mediaEmbed(this.#random) } : {}
    return { text: `@someone ${this.#count()}`, ...facets, ...langs, ...embed }
  }

  #reply(): { collection: string; record: Record<string, unknown> } | undefined {
    const pool = this.#random.chance(0.9) ? this.living : this.ever
    const posts = pool.filter(({ collection }) => collection === 'app.bsky.feed.post')
    if (posts.length === 0) return undefined
    const parent = this.#random.pick(posts.slice(-12))
    const ownRoot = (parent.record.reply as { root: object } | undefined)?.root ?? ref(parent)
    // Now and then a reply claims a thread that its parent is not in.
    const root = this.#random.chance(0.05) ? ref(this.#random.pick(posts)) : ownRoot
    return { collection: 'app.bsky.feed.post', record: { ...this.#post(), reply: { root, parent: ref(parent) } } }
  }

  gateOf({ did, rkey, uri }: Living): Made {
    return { collection: 'app.bsky.feed.threadgate', rkey, record: { post: uri, ...this.#gateRules(did) } }
  }

  #gateRules(did: string): Record<string, unknown> {
    // A gate may name anybody's list.
    const lists = this.living.filter(
      (r) => r.collection === 'app.bsky.graph.list' && (r.did === did || this.#random.chance(0.3)),
    )
    const rules = [
      { $type: 'app.bsky.feed.threadgate#mentionRule' },
      { $type: 'app.bsky.feed.threadgate#followerRule' },
      { $type: 'app.bsky.feed.threadgate#followingRule' },
      ...lists.slice(-2).map(({ uri }) => ({ $type: 'app.bsky.feed.threadgate#listRule', list: uri })),
    ]
    const hidden = this.living.filter(({ record }) => record.reply !== undefined)
    return {
      ...(this.#random.chance(0.85) ? { allow: rules.filter(() => this.#random.chance(0.4)) } : {}),
      ...(hidden.length > 0 && this.#random.chance(0.4) ? { hiddenReplies: [this.#random.pick(hidden).uri] } : {}),
    }
  }

  #profile(): Record<string, unknown> {
    const packs = this.living.filter(({ collection }) => collection === 'app.bsky.graph.starterpack')
    const joined = packs.length > 0 ? { joinedViaStarterPack: ref(this.#random.pick(packs)) } : {}
    return { displayName: `someone ${this.#count()}`, avatar: blob('avatar'), ...joined }
  }

  #via(): object {
    const reposts = this.living.filter(({ collection }) => collection === 'app.bsky.feed.repost')
    return reposts.length > 0 && this.#random.chance(0.3) ? { via: ref(this.#random.pick(reposts)) } : {}
  }

  #withPost<T>(make: (ref: { uri: string; cid: string }) => T): T | undefined {
    return this.#with('app.bsky.feed.post', (post) => make(ref(post)))
  }

  #with<T>(collection: string, make: (record: Living) => T): T | undefined {
    const pool = this.#random.chance(0.95) ? this.living : this.ever
    const candidates = pool.filter((r) => r.collection === collection)
    return candidates.length > 0 ? make(this.#random.pick(candidates.slice(-15))) : undefined
  }

  #withOwn<T>(did: string, collection: string, make: (record: Living) => T): T | undefined {
    const candidates = this.living.filter((r) => r.did === did && r.collection === collection)
    return candidates.length > 0 ? make(this.#random.pick(candidates.slice(-8))) : undefined
  }

  /** The content of a later version. Undefined if records of its collection are not edited. */
  edited(old: Living): Record<string, unknown> | undefined {
    const edits: Record<string, () => Record<string, unknown>> = {
      'app.bsky.feed.post': () =>
        this.#random.chance(0.8) ? this.#rewritten(old, `edited ${this.#count()}`) : old.record,
      'app.bsky.actor.profile': () => ({ ...this.#profile() }),
      'app.bsky.feed.threadgate': () => ({ post: old.record.post, ...this.#gateRules(old.did) }),
      'app.bsky.graph.list': () => ({ ...old.record, name: `renamed ${this.#count()}` }),
    }
    const pair = PAIRS[old.collection]
    if (pair === 'verification' && !this.#editsVerifications) return undefined
    return pair ? this.#otherPair(pair, old) : edits[old.collection]?.()
  }

  /**
   * The content of a deleted record that is written anew. A post stays in its thread, unless `movesThreads`; any other
   * record is as it was, or as an edit makes it.
   */
  anew(old: Living): Record<string, unknown> {
    if (old.collection === 'app.bsky.feed.post') return this.#rewritten(old, `anew ${this.#count()}`)
    return (this.#random.chance(0.5) ? this.edited(old) : undefined) ?? old.record
  }

  #rewritten(old: Living, text: string): Record<string, unknown> {
    if (!this.#movesThreads || this.#random.chance(0.6)) return { ...old.record, text, ...this.#otherParent(old) }
    const { reply: _, ...alone }: Record<string, unknown> = { ...old.record, text }
    const reply = this.#random.chance(0.7) ? (this.#reply()?.record.reply as { parent: { uri: string } }) : undefined
    return reply && !this.#isBelow(reply.parent.uri, old.uri) ? { ...alone, reply } : alone
  }

  /**
   * Now and then a reply moves within its thread. It never moves below a post that was written after it: no client
   * makes replies in a circle.
   */
  #otherParent({ uri, rkey, record }: Living): { reply?: object } {
    const { reply } = record as { reply?: { root: { uri: string } } }
    if (!reply || this.#random.chance(0.5)) return {}
    const thread = this.living.filter((r) => r.uri === reply.root.uri || isReplyIn(r, reply.root.uri))
    const earlier = thread.filter((r) => r.rkey < rkey && !this.#isBelow(r.uri, uri))
    return earlier.length > 0 ? { reply: { ...reply, parent: ref(this.#random.pick(earlier)) } } : {}
  }

  /**
   * Whether any version of the post, or of a post above it, answers `post`. The keys alone do not tell: clocks may be
   * behind.
   */
  #isBelow(uri: string, post: string): boolean {
    const seen = new Set([uri])
    for (const at of seen) for (const above of this.#above.get(at) ?? []) seen.add(above)
    return seen.has(post)
  }

  /**
   * The edit of a pair record (like, follow, …): about another subject, the same at a later time, or what another
   * record of the account says already. Never unchanged.
   */
  #otherPair(making: Making, { did, collection, uri, record }: Living): Record<string, unknown> {
    const twins = this.living.filter((r) => r.did === did && r.collection === collection && r.uri !== uri)
    const isTwin = twins.length > 0 && this.#random.chance(0.3)
    const other = isTwin ? this.#random.pick(twins).record : this.#random.chance(0.6) && this.make(making, did)?.record
    return { ...(other || record), createdAt: this.#now() }
  }
}

function isReplyIn({ record }: Living, root: string): boolean {
  return (record.reply as { root: { uri: string } } | undefined)?.root.uri === root
}

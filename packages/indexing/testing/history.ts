/**
 * Random histories of a small network, as events in their natural order: what happens to whom, with valid records of every collection, edits, deletions, second likes
 * of the same post, gates of every kind, replies to what is gone. Few accounts, so that everything meets everything.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { DeleteEvent, JsonRecord, RecordEvent } from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { mediaEmbed, mention, recordEmbed } from './embeds.ts'
import { blob, cidOf, hash, ref } from './made-up.ts'

export interface HistoryOptions {
  seed: number
  events: number
  accounts?: number
  /** Verifications are edited too: what is told of the end of one that was, depends on the order of its versions. Default: they are not. */
  editsVerifications?: boolean
}

interface Living {
  did: string
  collection: string
  rkey: string
  uri: string
  cid: string
  record: JsonRecord
}

const EPOCH_MICROS = Date.parse('2026-06-01T00:00:00.000Z') * 1000
const MILLISECOND = 1_000
const WEIGHTS = {
  post: 10,
  reply: 20,
  quote: 5,
  like: 14,
  repost: 6,
  follow: 8,
  block: 2,
  list: 2,
  listitem: 4,
  listblock: 1,
  threadgate: 5,
  postgate: 3,
  profile: 3,
  starterpack: 1,
  verification: 3,
  generator: 1,
  labeler: 1,
  optout: 1,
  status: 1,
  again: 6,
  edit: 6,
  anew: 2,
  delete: 18,
} as const
type Act = keyof typeof WEIGHTS
/** Collections whose records say that an account has to do with something: one that says the same is a duplicate. With the act that makes one. */
const PAIRS: Readonly<Record<string, Act>> = {
  'app.bsky.feed.like': 'like',
  'app.bsky.feed.repost': 'repost',
  'app.bsky.graph.follow': 'follow',
  'app.bsky.graph.block': 'block',
  'app.bsky.graph.listitem': 'listitem',
  'app.bsky.graph.listblock': 'listblock',
  'app.bsky.graph.verification': 'verification',
  'app.bsky.graph.referencelistoptout': 'optout',
}

export function history(options: HistoryOptions): RecordEvent[] {
  return new History(options).events
}

class History {
  readonly events: RecordEvent[] = []
  readonly #random: Random
  readonly #dids: string[]
  readonly #editsVerifications: boolean
  #living: Living[] = []
  /** Everything that ever was: what is gone may still be answered, liked and named. */
  #ever: Living[] = []
  #micros = EPOCH_MICROS

  constructor({ seed, events, accounts = 6, editsVerifications = false }: HistoryOptions) {
    this.#random = new Random(seed)
    this.#editsVerifications = editsVerifications
    this.#dids = Array.from({ length: accounts }, (_, i) => `did:plc:${hash(`${seed} ${i}`).slice(0, 24)}`)
    while (this.events.length < events) this.#act(this.#random.weighted(WEIGHTS))
  }

  #act(act: Act): void {
    const did = this.#random.pick(this.#dids)
    switch (act) {
      case 'delete':
        return this.#delete()
      case 'edit':
        return this.#edit()
      case 'again':
        return this.#again()
      case 'anew':
        return this.#anew()
      default: {
        const made = this.#make(act, did)
        if (made) this.#create(did, made.collection, made.rkey ?? this.#tid(), made.record)
      }
    }
  }

  #make(act: Act, did: string): { collection: string; rkey?: string; record: Record<string, unknown> } | undefined {
    const other = this.#random.pick(this.#dids)
    switch (act) {
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
        return this.#withOwn(did, 'app.bsky.feed.post', (post) => ({
          collection: 'app.bsky.feed.threadgate',
          rkey: post.rkey,
          record: { post: post.uri, ...this.#gateRules(did) },
        }))
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
      default:
        return undefined
    }
  }

  #post(): Record<string, unknown> {
    const facets = this.#random.chance(0.3) ? { facets: [mention(this.#random.pick(this.#dids))] } : {}
    const langs = this.#random.chance(0.3) ? { langs: ['en', 'de'] } : {}
    const embed = this.#random.chance(0.2) ? { embed: mediaEmbed(this.#random) } : {}
    return { text: `@someone ${this.events.length}`, ...facets, ...langs, ...embed }
  }

  #reply(): { collection: string; record: Record<string, unknown> } | undefined {
    const pool = this.#random.chance(0.9) ? this.#living : this.#ever
    const posts = pool.filter(({ collection }) => collection === 'app.bsky.feed.post')
    if (posts.length === 0) return undefined
    const parent = this.#random.pick(posts.slice(-12))
    const ownRoot = (parent.record.reply as { root: object } | undefined)?.root ?? ref(parent)
    // Now and then a reply claims a thread that its parent is not in.
    const root = this.#random.chance(0.05) ? ref(this.#random.pick(posts)) : ownRoot
    return { collection: 'app.bsky.feed.post', record: { ...this.#post(), reply: { root, parent: ref(parent) } } }
  }

  #gateRules(did: string): Record<string, unknown> {
    // Anybody's list may be named.
    const lists = this.#living.filter(
      (r) => r.collection === 'app.bsky.graph.list' && (r.did === did || this.#random.chance(0.3)),
    )
    const rules = [
      { $type: 'app.bsky.feed.threadgate#mentionRule' },
      { $type: 'app.bsky.feed.threadgate#followerRule' },
      { $type: 'app.bsky.feed.threadgate#followingRule' },
      ...lists.slice(-2).map(({ uri }) => ({ $type: 'app.bsky.feed.threadgate#listRule', list: uri })),
    ]
    const hidden = this.#living.filter(({ record }) => record.reply !== undefined)
    return {
      ...(this.#random.chance(0.85) ? { allow: rules.filter(() => this.#random.chance(0.4)) } : {}),
      ...(hidden.length > 0 && this.#random.chance(0.4) ? { hiddenReplies: [this.#random.pick(hidden).uri] } : {}),
    }
  }

  #profile(): Record<string, unknown> {
    const packs = this.#living.filter(({ collection }) => collection === 'app.bsky.graph.starterpack')
    const joined = packs.length > 0 ? { joinedViaStarterPack: ref(this.#random.pick(packs)) } : {}
    return { displayName: `someone ${this.events.length}`, avatar: blob('avatar'), ...joined }
  }

  #via(): object {
    const reposts = this.#living.filter(({ collection }) => collection === 'app.bsky.feed.repost')
    return reposts.length > 0 && this.#random.chance(0.3) ? { via: ref(this.#random.pick(reposts)) } : {}
  }

  #withPost<T>(make: (ref: { uri: string; cid: string }) => T): T | undefined {
    return this.#with('app.bsky.feed.post', (post) => make(ref(post)))
  }

  #with<T>(collection: string, make: (record: Living) => T): T | undefined {
    const pool = this.#random.chance(0.95) ? this.#living : this.#ever
    const candidates = pool.filter((r) => r.collection === collection)
    return candidates.length > 0 ? make(this.#random.pick(candidates.slice(-15))) : undefined
  }

  #withOwn<T>(did: string, collection: string, make: (record: Living) => T): T | undefined {
    const candidates = this.#living.filter((r) => r.did === did && r.collection === collection)
    return candidates.length > 0 ? make(this.#random.pick(candidates.slice(-8))) : undefined
  }

  /** The same once more: a second like, follow, repost of the same. */
  #again(): void {
    const candidates = this.#living.filter(({ collection }) => collection in PAIRS)
    if (candidates.length === 0) return
    const { did, collection, record } = this.#random.pick(candidates)
    this.#create(did, collection, this.#tid(), { ...record })
  }

  #edit(): void {
    if (this.#living.length === 0) return
    const old = this.#random.pick(this.#living.slice(-40))
    const edits: Record<string, () => Record<string, unknown>> = {
      'app.bsky.feed.post': () =>
        this.#random.chance(0.8)
          ? { ...old.record, text: `edited ${this.events.length}`, ...this.#otherParent(old) }
          : old.record,
      'app.bsky.actor.profile': () => ({ ...this.#profile() }),
      'app.bsky.feed.threadgate': () => ({ post: old.record.post, ...this.#gateRules(old.did) }),
      'app.bsky.graph.list': () => ({ ...old.record, name: `renamed ${this.events.length}` }),
    }
    const pair = PAIRS[old.collection]
    if (pair === 'verification' && !this.#editsVerifications) return
    const edit = pair ? () => this.#otherPair(pair, old) : edits[old.collection]
    if (edit) this.#create(old.did, old.collection, old.rkey, edit())
  }

  /** A post that was deleted is written anew, in the same thread. */
  #anew(): void {
    const living = new Set(this.#living.map(({ uri }) => uri))
    const gone = this.#ever.filter(({ uri, collection }) => collection === 'app.bsky.feed.post' && !living.has(uri))
    if (gone.length === 0) return
    const old = this.#random.pick(gone.slice(-20))
    const record = { ...old.record, text: `anew ${this.events.length}`, ...this.#otherParent(old) }
    this.#create(old.did, old.collection, old.rkey, record)
  }

  /** Now and then a reply moves within its thread. Never below what was written after it: replies in a circle are nobody's. */
  #otherParent({ rkey, record }: Living): { reply?: object } {
    const { reply } = record as { reply?: { root: { uri: string } } }
    if (!reply || this.#random.chance(0.5)) return {}
    const thread = this.#living.filter((r) => r.uri === reply.root.uri || isReplyIn(r, reply.root.uri))
    const earlier = thread.filter((r) => r.rkey < rkey)
    return earlier.length > 0 ? { reply: { ...reply, parent: ref(this.#random.pick(earlier)) } } : {}
  }

  /** Of somebody or something else than before, the same at a later time, or what another record of the account says already. Never the same as it was. */
  #otherPair(act: Act, { did, collection, uri, record }: Living): Record<string, unknown> {
    const twins = this.#living.filter((r) => r.did === did && r.collection === collection && r.uri !== uri)
    const isTwin = twins.length > 0 && this.#random.chance(0.3)
    const other = isTwin ? this.#random.pick(twins).record : this.#random.chance(0.6) && this.#make(act, did)?.record
    return { ...(other || record), createdAt: this.#time(MILLISECOND) }
  }

  #delete(): void {
    if (this.#living.length === 0) return
    const gone = this.#random.pick(this.#living.slice(-60))
    this.#living = this.#living.filter(({ uri }) => uri !== gone.uri)
    const { did, collection, rkey } = gone
    const event: DeleteEvent = { type: 'delete', ...this.#commit(did), collection, rkey }
    this.events.push(event)
  }

  #create(did: string, collection: string, rkey: string, content: Record<string, unknown>): void {
    const record: JsonRecord = { $type: collection, createdAt: this.#time(MILLISECOND), ...content }
    const uri = `at://${did}/${collection}/${rkey}`
    const existing = this.#living.some((r) => r.uri === uri)
    const made: Living = { did, collection, rkey, uri, cid: cidOf(`${uri} ${JSON.stringify(record)}`), record }
    this.#living = [...this.#living.filter((r) => r.uri !== uri), made]
    this.#ever.push(made)
    this.events.push({
      type: existing ? 'update' : 'create',
      ...this.#commit(did),
      collection,
      rkey,
      cid: made.cid,
      record,
    })
  }

  #commit(did: string) {
    const rev = this.#tid()
    return { seq: this.events.length + 1, time: this.#time(), did, commit: cidOf(rev), rev }
  }

  /** Later with each call, as clocks are. */
  #tid(): string {
    this.#micros += 1 + this.#random.below(20_000_000)
    return tidFromMicros(this.#micros, 7)
  }

  /** A record is made after the last commit, by the milliseconds of its date too: by date, a gate in the same one would be older than a reply that was there before it. */
  #time(passed = 0): string {
    this.#micros += passed
    return new Date(this.#micros / 1000).toISOString()
  }
}

function isReplyIn({ record }: Living, root: string): boolean {
  return (record.reply as { root: { uri: string } } | undefined)?.root.uri === root
}

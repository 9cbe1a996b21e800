/**
 * What people write: posts, replies, quotes, gates and who they let in, likes, follows, reposts, blocks, lists,
 * profiles, verifications, changes and deletions, mostly about what is new. Replies do not move, and what was deleted
 * is not written anew, but for gates and profiles.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { Write } from '@sluice/atproto/testing/repo.ts'
import type { Random } from '@sluice/sandbox/random.ts'
import { Contents, type Fields } from './contents.ts'
import { Gatekeeper } from './gatekeeper.ts'
import { Recent } from './recent.ts'
import { accountOf, type TrueRecord, type Truth } from './truth.ts'
import type { WorldClock } from './world-clock.ts'

interface Ref {
  uri: string
  cid: string
}

const KINDS = {
  like: 28, post: 15, reply: 18, follow: 9, repost: 7, remove: 7, edit: 4, threadgate: 6, postgate: 4, listitem: 4, list: 2,
  verification: 2, block: 1.5, profile: 1.5, starterpack: 1, listblock: 0.7, optout: 0.7, generator: 0.7, labeler: 0.3, status: 0.3,
} as const // prettier-ignore
type Kind = keyof typeof KINDS

/** Who likes something likes it twice as often as this says; the second one waits until the first is gone. */
const TWICE = 0.02
/** Somebody's own records so many, the newest, may be edited or deleted. */
const OWN = 500
/** The collections whose records get another subject by an edit. */
const SUBJECTS: Readonly<Record<string, 'post' | 'account'>> = {
  'app.bsky.feed.like': 'post',
  'app.bsky.feed.repost': 'post',
  'app.bsky.graph.follow': 'account',
  'app.bsky.graph.block': 'account',
  'app.bsky.graph.listitem': 'account',
  'app.bsky.graph.verification': 'account',
}
const POST = 'app.bsky.feed.post'
const LIST = 'app.bsky.graph.list'
const PROFILE = 'app.bsky.actor.profile'

export class People {
  readonly #random: Random
  readonly #truth: Truth
  readonly #clock: WorldClock
  readonly #contents: Contents
  readonly #keeps: number
  readonly #dids: string[] = []
  readonly #recent: Recent
  /** What was said of whom, for saying it twice. */
  readonly #said = new Map<string, string[]>()
  readonly #gatekeeper: Gatekeeper

  /** @param keeps records that an account has at most, about */
  constructor({
    random,
    truth,
    clock,
    keeps = Infinity,
  }: {
    random: Random
    truth: Truth
    clock: WorldClock
    keeps?: number | undefined
  }) {
    this.#random = random
    this.#truth = truth
    this.#clock = clock
    this.#keeps = keeps
    this.#contents = new Contents(random)
    this.#recent = new Recent(random, (uri) => truth.records.has(uri))
    this.#gatekeeper = new Gatekeeper(random, truth, this.#recent)
  }

  meet(did: string): void {
    this.#dids.push(did)
  }

  forget(did: string): void {
    this.#dids.splice(this.#dids.indexOf(did), 1)
  }

  written(uri: string, version: Pick<TrueRecord, 'did' | 'collection' | 'record'>): void {
    const { collection } = version
    this.#recent.add(collection, uri)
    this.#recent.add(`${collection} of ${accountOf(uri)}`, uri)
    this.#gatekeeper.written(uri, version)
  }

  /** The next thing that an account writes, or deletes of what it has. @param own paths of its records */
  write(did: string, own: ReadonlyMap<string, unknown>): Write {
    const random = this.#random
    const atMs = this.#clock.next()
    const now = { did, atMs, iso: new Date(atMs).toISOString() }
    const kind = own.size >= this.#keeps ? 'remove' : random.weighted(KINDS)
    if (kind !== 'remove' && kind !== 'edit') return this.#make(kind, now) ?? this.#post(now)
    const path = own.size > 5 ? nth(own.keys(), random.below(Math.min(own.size, OWN))) : undefined
    if (path === undefined) return this.#post(now)
    if (kind === 'remove') return { path, record: null }
    const record = this.#edited(now, this.#truth.records.get(`at://${did}/${path}`)!.record)
    return record ? { path, record } : this.#post(now)
  }

  /** A post that people talk about now; they like to find out who may. */
  subject(): Ref | undefined {
    const gated = this.#random.chance(0.25) ? this.#gatekeeper.gated() : undefined
    return this.#ref(gated ?? this.#recent.pick(POST))
  }

  #make(kind: Exclude<Kind, 'remove' | 'edit'>, now: Now): Write | undefined {
    switch (kind) {
      case 'post':
        return this.#post(now)
      case 'reply':
        return this.#reply(now)
      case 'like':
      case 'repost':
        return this.#reaction(now, kind)
      case 'follow':
      case 'block':
        return this.#new(now, `app.bsky.graph.${kind}`, { subject: this.#other(now.did) })
      case 'threadgate':
      case 'postgate':
        return this.#gatekeeper.gate(now.did, kind, now.iso)
      case 'profile':
        return this.#profile(now)
      case 'list':
        return this.#new(now, LIST, {
          name: this.#contents.word(),
          purpose: 'app.bsky.graph.defs#curatelist',
          ...this.#contents.described(),
        })
      case 'listitem': {
        const list = this.#recent.pick(`${LIST} of ${now.did}`)
        return list === undefined
          ? undefined
          : this.#new(now, 'app.bsky.graph.listitem', { list, subject: this.#other(now.did) })
      }
      case 'listblock':
      case 'optout': {
        const subject = this.#recent.pick(LIST)
        const name = kind === 'optout' ? 'referencelistoptout' : kind
        return subject === undefined ? undefined : this.#new(now, `app.bsky.graph.${name}`, { subject })
      }
      case 'starterpack': {
        const list = this.#recent.pick(`${LIST} of ${now.did}`)
        return list === undefined
          ? undefined
          : this.#new(now, 'app.bsky.graph.starterpack', { name: this.#contents.word(), list })
      }
      case 'verification':
        return this.#new(now, 'app.bsky.graph.verification', {
          subject: this.#other(now.did),
          handle: 'somebody.test',
          displayName: this.#contents.word(),
        })
      case 'generator':
        return this.#new(now, 'app.bsky.feed.generator', {
          did: 'did:web:feeds.test',
          displayName: this.#contents.word(),
          ...this.#contents.described(),
        })
      case 'labeler':
        return this.#self('app.bsky.labeler.service', {
          policies: { labelValues: [this.#contents.word()] },
          createdAt: now.iso,
        })
      case 'status':
        return this.#self('app.bsky.actor.status', { status: 'app.bsky.actor.status#live', createdAt: now.iso })
      default:
        return kind satisfies never
    }
  }

  #new({ atMs, iso }: Now, collection: string, fields: Fields): Write {
    const rkey = tidFromMicros(atMs * 1_000, 3)
    return {
      path: `${collection}/${rkey}`,
      record: { $type: collection, ...fields, createdAt: this.#contents.date(iso) },
    }
  }

  #self(collection: string, fields: Fields): Write {
    return { path: `${collection}/self`, record: { $type: collection, ...fields } }
  }

  #post(now: Now, fields: Fields = {}): Write {
    const random = this.#random
    const contents = this.#contents
    const features = [
      ...(random.chance(0.2) ? [{ $type: 'app.bsky.richtext.facet#mention', did: random.pick(this.#dids) }] : []),
      ...(random.chance(0.1) ? [{ $type: 'app.bsky.richtext.facet#tag', tag: 'tag' }] : []),
    ]
    return this.#new(now, POST, {
      text: contents.text(),
      ...contents.marks(),
      ...(features.length > 0 && { facets: features.map((feature) => contents.facet(feature)) }),
      ...(random.chance(0.4) && { embed: contents.embed(this.#shown()) }),
      ...fields,
    })
  }

  /** What a post may show. */
  #shown(): Ref | undefined {
    return this.#random.chance(0.85) ? this.subject() : this.#ref(this.#recent.pick(LIST))
  }

  /** Mostly where one is let in; now and then to a post that never was, or as if it were in another thread. */
  #reply(now: Now): Write | undefined {
    const random = this.#random
    const invited = random.chance(0.4) ? this.#gatekeeper.invitation(now.did) : undefined
    const parent = this.#ref(invited) ?? this.subject()
    if (!parent) return undefined
    const { reply: above } = this.#truth.records.get(parent.uri)!.record as { reply?: { root: Ref } }
    const root = above?.root ?? parent
    if (random.chance(0.03)) {
      const missing = { ...parent, uri: `${parent.uri.slice(0, -1)}z` }
      return this.#post(now, { reply: { root, parent: missing } })
    }
    const elsewhere = random.chance(0.06) ? random.pick([parent, this.subject()]) : undefined
    return this.#post(now, { reply: { root: elsewhere ?? root, parent } })
  }

  #reaction(now: Now, kind: 'like' | 'repost'): Write | undefined {
    const collection = `app.bsky.feed.${kind}`
    const subject = this.#again(now.did, kind) ?? this.subject()
    if (!subject) return undefined
    const via = this.#random.chance(0.2) ? this.#ref(this.#recent.pick('app.bsky.feed.repost')) : undefined
    return this.#new(now, collection, { subject, ...(via && { via }) })
  }

  #profile({ iso }: Now): Write {
    const random = this.#random
    const pack = random.chance(0.4) ? this.#ref(this.#recent.pick('app.bsky.graph.starterpack')) : undefined
    const pinned = random.chance(0.2) ? this.subject() : undefined
    return this.#self(PROFILE, {
      ...this.#contents.profile(),
      ...(pack && { joinedViaStarterPack: pack }),
      ...(pinned && { pinnedPost: pinned }),
      // Some programs leave it out.
      ...(random.chance(0.8) && { createdAt: iso }),
    })
  }

  /** A later version; undefined: such are not edited. Never unchanged. */
  #edited(now: Now, old: Fields): Fields | undefined {
    const collection = old.$type as string
    const createdAt = now.iso
    // Names of feeds have 24 characters at most.
    const name = `at ${createdAt.slice(5, 19)}`
    const about = SUBJECTS[collection]
    if (about) {
      const subject = about === 'post' ? this.subject() : this.#other(now.did)
      return subject === undefined ? undefined : { ...old, subject, createdAt }
    }
    switch (collection) {
      case POST:
        return { ...old, text: `at ${createdAt} ${this.#contents.text()}` }
      case PROFILE:
        return { ...this.#profile(now).record!, displayName: name }
      case LIST:
      case 'app.bsky.graph.starterpack':
        return { ...old, name }
      case 'app.bsky.feed.generator':
        return { ...old, displayName: name }
      case 'app.bsky.feed.threadgate':
      case 'app.bsky.feed.postgate':
        return this.#gatekeeper.rules(now.did, { $type: collection, post: old.post, createdAt })
      default:
        return undefined
    }
  }

  #ref(uri: string | undefined): Ref | undefined {
    const record = uri === undefined ? undefined : this.#truth.records.get(uri)
    return record && { uri: uri!, cid: record.cid }
  }

  /** Something that this account has said already. */
  #again(did: string, kind: string): Ref | undefined {
    const key = `${kind} ${did}`
    const said = this.#said.get(key) ?? []
    this.#said.set(key, said)
    if (said.length > 0 && this.#random.chance(TWICE)) {
      const again = this.#ref(this.#random.pick(said))
      if (again) return again
    }
    const next = this.subject()
    if (next && said.length < 50) said.push(next.uri)
    return next
  }

  #other(did: string): string {
    const other = this.#random.pick(this.#dids)
    return other === did ? this.#dids[(this.#dids.indexOf(did) + 1) % this.#dids.length]! : other
  }
}

/** Who writes, and when. */
interface Now {
  did: string
  atMs: number
  iso: string
}

function nth(keys: Iterable<string>, n: number): string | undefined {
  let i = 0
  for (const key of keys) if (i++ === n) return key
  return undefined
}

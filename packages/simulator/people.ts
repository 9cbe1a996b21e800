/** What people write: posts, replies, likes, follows, reposts, blocks, profiles, changes and deletions, mostly about what is new. */
import { tidFromMicros } from '@sluice/events/tid.ts'
import { remember } from '@sluice/runtime/remember.ts'
import type { Write } from '@sluice/atproto/testing/repo.ts'
import type { Random } from '@sluice/sandbox/random.ts'

interface Ref {
  uri: string
  cid: string
}
interface Post {
  cid: string
  /** The post that its thread began with. */
  root: Ref
}

const WORDS = 'the quick brown fox jumps over lazy dogs while rain falls on Zürich and 東京 👩‍👩‍👧 every day \\u0000'.split(
  ' ',
)
const KINDS = { like: 42, post: 16, reply: 10, follow: 10, repost: 8, remove: 10, block: 2, profile: 2 } as const
const FIRST_MS = Date.UTC(2026, 0, 1)
/** Who likes something likes it twice as often as this says; the second one waits until the first is gone. */
const TWICE = 0.02
/** Beyond this the oldest are no longer talked about. */
const REMEMBERED_POSTS = 20_000

export class People {
  /** Living posts by URI, the oldest first. */
  readonly posts = new Map<string, Post>()
  readonly #random: Random
  readonly #keeps: number
  readonly #dids: string[] = []
  /** What was said of whom, for saying it twice. */
  readonly #said = new Map<string, string[]>()
  #recent: string[] = []
  #number = 0

  /** @param keeps records that an account has at most, about */
  constructor(random: Random, keeps = Infinity) {
    this.#random = random
    this.#keeps = keeps
  }

  meet(did: string): void {
    this.#dids.push(did)
  }

  forget(did: string): void {
    this.#dids.splice(this.#dids.indexOf(did), 1)
    for (const uri of this.posts.keys()) if (uri.startsWith(`at://${did}/`)) this.posts.delete(uri)
  }

  written(uri: string, cid: string, record: Record<string, unknown>): void {
    if (record.$type !== 'app.bsky.feed.post') return
    const { reply } = record as { reply?: { root: Ref } }
    remember(this.posts, uri, { cid, root: reply?.root ?? { uri, cid } }, REMEMBERED_POSTS)
    this.#recent.push(uri)
    if (this.#recent.length > 400) this.#recent = this.#recent.slice(-200)
  }

  removed(uri: string): void {
    this.posts.delete(uri)
  }

  /** The next thing that an account writes, or deletes of what it has. @param own paths of its records */
  write(did: string, own: ReadonlyMap<string, unknown>): Write {
    const random = this.#random
    const createdAt = new Date(FIRST_MS + ++this.#number * 1_000).toISOString()
    const kind = own.size >= this.#keeps ? 'remove' : random.weighted(KINDS)
    switch (kind) {
      case 'remove': {
        const path = own.size > 5 ? nth(own.keys(), random.below(Math.min(own.size, 500))) : undefined
        if (path !== undefined && path !== PROFILE) return { path, record: null }
        return this.#record('app.bsky.feed.post', { text: this.#text(), createdAt })
      }
      case 'profile':
        return {
          path: PROFILE,
          record: { $type: PROFILE.split('/')[0]!, displayName: this.#random.pick(WORDS), createdAt },
        }
      case 'post':
        return this.#record('app.bsky.feed.post', { text: this.#text(), langs: ['en'], createdAt })
      case 'reply': {
        const parent = this.subject()
        const reply = parent && { root: this.posts.get(parent.uri)!.root, parent }
        return this.#record('app.bsky.feed.post', { text: this.#text(), createdAt, ...(reply && { reply }) })
      }
      case 'like':
      case 'repost': {
        const subject = this.#again(did, kind) ?? this.subject()
        if (subject === undefined) return this.#record('app.bsky.feed.post', { text: this.#text(), createdAt })
        return this.#record(`app.bsky.feed.${kind}`, { subject, createdAt })
      }
      case 'follow':
      case 'block':
        return this.#record(`app.bsky.graph.${kind}`, { subject: this.#other(did), createdAt })
      default:
        return kind satisfies never
    }
  }

  #record(collection: string, fields: Record<string, unknown>): Write {
    const rkey = tidFromMicros((FIRST_MS + this.#number * 1_000) * 1_000, 3)
    return { path: `${collection}/${rkey}`, record: { $type: collection, ...fields } }
  }

  /** A post that people talk about now. */
  subject(): Ref | undefined {
    for (let tries = 0; tries < 20 && this.#recent.length > 0; tries++) {
      const uri = this.#random.pickRecent(this.#recent)
      const post = this.posts.get(uri)
      if (post) return { uri, cid: post.cid }
    }
    return undefined
  }

  /** Something that this account has said already. */
  #again(did: string, kind: string): Ref | undefined {
    const key = `${kind} ${did}`
    const said = this.#said.get(key) ?? []
    this.#said.set(key, said)
    if (said.length > 0 && this.#random.chance(TWICE)) {
      const uri = this.#random.pick(said)
      const post = this.posts.get(uri)
      if (post) return { uri, cid: post.cid }
    }
    const next = this.subject()
    if (next && said.length < 50) said.push(next.uri)
    return next
  }

  #other(did: string): string {
    const other = this.#random.pick(this.#dids)
    return other === did ? this.#dids[(this.#dids.indexOf(did) + 1) % this.#dids.length]! : other
  }

  #text(): string {
    return Array.from({ length: 1 + this.#random.below(25) }, () => this.#random.pick(WORDS)).join(' ')
  }
}

const PROFILE = 'app.bsky.actor.profile/self'

function nth(keys: Iterable<string>, n: number): string | undefined {
  let i = 0
  for (const key of keys) if (i++ === n) return key
  return undefined
}

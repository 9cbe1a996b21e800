/**
 * Facts about posts, as they were at a given time: what judging asks for, once it is loaded (`load-facts.ts`).
 *
 * Facts that are no longer true have the span in which they held. So a late post is judged as it would have been in time.
 */
import { followKey, listItemKey, postGateKey, threadGateKey, type PostGate, type ThreadGate } from './gates.ts'
import { isReplyRootInvalid, type Facts, type Judged, type ThreadPost } from './judge.ts'

/** Something that was true from `since` until before `until` (TIDs); without `until` it still is. */
export interface Span<T> {
  since: string
  until?: string
  fact: T
}

export interface PastPost {
  root: string | null
  parent: string | null
}

export const PAST_LEVELS_MAX = 50

export class LoadedFacts implements Facts {
  readonly #posts = new Map<string, ThreadPost>()
  readonly #spans = new Map<string, Span<unknown>[]>()
  /** By the URI of a living post, by URI and beginning of a past version. */
  readonly #mentions = new Map<string, Set<string>>()
  #unjudged = new Set<string>()
  #judge: (uri: string) => void = () => {}
  /** Keys and times whose ended spans are loaded. */
  readonly #asked = new Set<string>()

  addPost(post: ThreadPost): void {
    this.#posts.set(post.uri, post)
  }

  hasPost(uri: string): boolean {
    return this.#posts.has(uri) || this.#unjudged.has(uri)
  }

  /** Posts of the batch itself: `judge` is called when one of them is asked for that was not added yet, and adds it. */
  expect(uris: Iterable<string>, judge: (uri: string) => void): void {
    this.#unjudged = new Set(uris)
    this.#judge = judge
  }

  /** True the first time. What is known of a key at one time says nothing of it at another. */
  ask(key: string, at: string): boolean {
    const before = this.#asked.size
    return this.#asked.add(`${at} ${key}`).size > before
  }

  addSpan(key: string, span: Span<unknown>): void {
    const spans = this.#spans.get(key)
    if (spans) spans.push(span)
    else this.#spans.set(key, [span])
  }

  parent(reply: Judged): ThreadPost | undefined {
    return this.postAt(reply.parent!, reply.at)
  }

  /**
   * The post as it was at that time: an ended version that was still to end, else the one that lives. A post counts from its beginning on: it cannot have
   * been answered before it was written, whatever the clocks say.
   */
  postAt(uri: string, at: string, level = 0): ThreadPost | undefined {
    const past = this.#pastPost(uri, at)
    if (!past) return this.#livingPost(uri)
    return { uri, ...past.fact, invalidReplyRoot: this.#wasInvalid(past, level) }
  }

  #livingPost(uri: string): ThreadPost | undefined {
    if (this.#unjudged.delete(uri)) this.#judge(uri)
    return this.#posts.get(uri)
  }

  /** Of the versions that were still to end: the last that had begun, or else the first. */
  #pastPost(uri: string, at: string): Span<PastPost> | undefined {
    const open = (this.#spans.get(uri) ?? []).filter(({ until }) => until! > at).sort(bySince)
    return (open.findLast(({ since }) => since <= at) ?? open[0]) as Span<PastPost> | undefined
  }

  /** As it was judged in its own time. A circle of deleted posts is valid nowhere, so it ends at some level. */
  #wasInvalid({ since, fact: { root, parent } }: Span<PastPost>, level: number): boolean {
    if (root === null || parent === null) return false
    if (level > PAST_LEVELS_MAX) return true
    return isReplyRootInvalid({ root, parent }, this.postAt(parent, since, level + 1))
  }

  threadGate(postUri: string, at: string): ThreadGate | undefined {
    return this.#at<ThreadGate>(threadGateKey(postUri), at)?.fact
  }

  postGate(postUri: string, at: string): PostGate | undefined {
    return this.#at<PostGate>(postGateKey(postUri), at)?.fact
  }

  mentions(postUri: string, at: string): ReadonlySet<string> {
    const since = this.pastVersion(postUri, at)
    return this.#mentions.get(since === undefined ? postUri : `${postUri} ${since}`) ?? NOBODY
  }

  /** When the version began that counted then, if it is one that has ended. */
  pastVersion(postUri: string, at: string): string | undefined {
    return this.#pastPost(postUri, at)?.since
  }

  /** @param since for a version that has ended; of one it suffices to add whom somebody asks for */
  addMentions(postUri: string, mentions: readonly string[], since?: string): void {
    const version = since === undefined ? postUri : `${postUri} ${since}`
    this.#mentions.set(version, new Set([...(this.#mentions.get(version) ?? []), ...mentions]))
  }

  follows(follower: string, followed: string, at: string): boolean {
    return this.#at(followKey(follower, followed), at) !== undefined
  }

  inList(list: string, member: string, at: string): boolean {
    return this.#at(listItemKey(list, member), at) !== undefined
  }

  /** The fact in force: an ended one whose span holds the time goes before one that still is, whose beginning may be claimed too early. */
  #at<T>(key: string, at: string): Span<T> | undefined {
    let best: Span<unknown> | undefined
    for (const span of this.#spans.get(key) ?? []) {
      if (span.since > at || (span.until !== undefined && span.until <= at)) continue
      if (!best || precedes(span, best)) best = span
    }
    return best as Span<T> | undefined
  }
}

const NOBODY: ReadonlySet<string> = new Set()

function bySince(a: Span<unknown>, b: Span<unknown>): number {
  return a.since < b.since ? -1 : 1
}

function precedes(a: Span<unknown>, b: Span<unknown>): boolean {
  if ((a.until === undefined) !== (b.until === undefined)) return a.until !== undefined
  return a.since > b.since
}

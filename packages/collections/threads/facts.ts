/**
 * The facts that judging needs, as they were at a given time, held in memory after `load-facts.ts` has loaded them.
 *
 * A fact that is no longer true has the span of time in which it held. So a post that arrives late is judged as it
 * would have been judged on time.
 */
import { followKey, listItemKey, postGateKey, threadGateKey, type PostGate, type ThreadGate } from './gates.ts'
import { isReplyRootInvalid, type Facts, type Judged, type ThreadPost } from './judge.ts'

/** A fact that held from `since` until before `until` (TIDs). Without `until` it still holds. */
export interface Span<T> {
  since: string
  until?: string
  fact: T
}

/** The place in a thread that an ended version of a post had. */
export interface PastPost {
  root: string | null
  parent: string | null
}

/** How many ended versions above each other are judged. Beyond that a reply counts as invalid. */
export const PAST_LEVELS_MAX = 50

export class LoadedFacts implements Facts {
  readonly #posts = new Map<string, ThreadPost>()
  readonly #spans = new Map<string, Span<unknown>[]>()
  /** Mentioned accounts. Key: the URI for the post that lives now; `<uri> <since>` for an ended version. */
  readonly #mentions = new Map<string, Set<string>>()
  /** Posts of the batch that have no verdict yet, and the function that judges one of them. */
  #unjudged = new Set<string>()
  #judge: (uri: string) => void = () => {}
  /** `<at> <key>` of each question whose ended span is loaded. */
  readonly #asked = new Set<string>()

  addPost(post: ThreadPost): void {
    this.#posts.set(post.uri, post)
  }

  hasPost(uri: string): boolean {
    return this.#posts.has(uri) || this.#unjudged.has(uri)
  }

  /**
   * Names the posts of the batch itself. When one of them is asked for before it was added, `judge` is called, and must
   * add it.
   */
  expect(uris: Iterable<string>, judge: (uri: string) => void): void {
    this.#unjudged = new Set(uris)
    this.#judge = judge
  }

  /**
   * Whether this is the first question for this key at this time. Another time is another question: a different span
   * may hold then.
   */
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
   * The post as it was at time `at`: an ended version that had not ended by then, else the version that lives now. A
   * version counts even when its own time is later than `at`: nobody can answer a post before it is written, so the
   * clocks disagree.
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

  /**
   * Among ended versions that had not ended by `at`: the latest that had begun by then; if none had begun, the
   * earliest.
   */
  #pastPost(uri: string, at: string): Span<PastPost> | undefined {
    const open = (this.#spans.get(uri) ?? []).filter(({ until }) => until! > at).sort(bySince)
    return (open.findLast(({ since }) => since <= at) ?? open[0]) as Span<PastPost> | undefined
  }

  /**
   * The verdict on the ended version at its own time. Deleted posts that answer each other in a circle are valid
   * nowhere, so the recursion stops at some level.
   */
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

  /** The beginning (TID) of the version that counted at that time, if that version has ended. */
  pastVersion(postUri: string, at: string): string | undefined {
    return this.#pastPost(postUri, at)?.since
  }

  /**
   * @param since the beginning of a version that has ended. For such a version it is enough to add the accounts that
   * are asked for.
   */
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

  /**
   * The fact in force at that time. An ended fact whose span contains the time precedes a fact that still holds: the
   * record of the latter may claim a beginning that is too early.
   */
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

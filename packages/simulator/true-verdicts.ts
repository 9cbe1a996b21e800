/**
 * What is true of replies and quotes, by the rules of thread gates and post gates, judged by what was there when they
 * were written.
 *
 * The index cannot know everything: of a follow that ended, of a gate that was edited or of a post that is gone it may
 * have seen the end late, or only that it was gone (an export tells nothing of what was before it). So a verdict is
 * true, false or open, and what depends on something open is open, unless it comes out the same either way. What still
 * is as it was first written is never open. Written from the lexicons and `docs/convergence.md`, and not from the code
 * that judges.
 */
import { quotedIn, type Embed } from './true-rows.ts'
import { accountOf, type TrueRecord, type Truth } from './truth.ts'

/** Undefined: open. */
export type Verdict = boolean | undefined

export interface TrueVerdicts {
  invalidReplyRoot: Verdict
  violatesThreadGate: Verdict
  violatesEmbeddingRules: Verdict
}

interface Reply {
  root: { uri: string }
  parent: { uri: string }
}
interface PostFields {
  reply?: Reply
  embed?: Embed
  facets?: { features: { $type: string; did?: string }[] }[]
}
interface ThreadGate {
  post: string
  allow?: { $type: string; list?: string }[]
  hiddenReplies?: string[]
}
interface PostGate {
  post: string
  embeddingRules?: { $type: string }[]
}

/** When something was written: not before `first`, not after `at`. */
type When = Pick<TrueRecord, 'first' | 'at'>
type Span<T> = When & { fact: T; isOver: boolean }

const THREADGATE = 'app.bsky.feed.threadgate'
const POSTGATE = 'app.bsky.feed.postgate'

export class Verdicts {
  readonly #truth: Truth
  readonly #threadGates: Map<string, Span<ThreadGate>[]>
  readonly #postGates: Map<string, Span<PostGate>[]>
  readonly #follows: Map<string, Span<true>[]>
  readonly #items: Map<string, Span<true>[]>
  readonly #places = new Map<string, Verdict>()

  constructor(truth: Truth) {
    this.#truth = truth
    this.#threadGates = spansOf(truth, THREADGATE, ({ record }) => [record.post, record as unknown as ThreadGate])
    this.#postGates = spansOf(truth, POSTGATE, ({ record }) => [record.post, record as unknown as PostGate])
    this.#follows = spansOf(truth, 'app.bsky.graph.follow', ({ did, record }) => [
      `${did} ${String(record.subject)}`,
      true,
    ])
    this.#items = spansOf(truth, 'app.bsky.graph.listitem', ({ record }) => {
      return [`${String(record.list)} ${String(record.subject)}`, true]
    })
  }

  /** @param post a living one */
  of(post: TrueRecord): TrueVerdicts {
    const { reply, embed } = post.record as PostFields
    const quoted = quotedIn(embed)
    return {
      invalidReplyRoot: reply ? this.#isMisplaced(reply) : false,
      violatesThreadGate: reply ? this.#isShutOut(post, reply.root.uri) : false,
      violatesEmbeddingRules: quoted ? this.#isNotToQuote(post, quoted.uri) : false,
    }
  }

  /** Whether the author of this post's thread had hidden another reply when the post was written. */
  hides(post: TrueRecord, thread: string, hidden: string): Verdict {
    return agreed(
      possible(this.#threadGates.get(thread), post).map((gate) => gate?.hiddenReplies?.includes(hidden) === true),
    )
  }

  /** The rules by which the gate of its thread lets the author of a reply in, where nothing of it is open. */
  admissions(post: TrueRecord): string[] {
    const { reply } = post.record as PostFields
    if (!reply || accountOf(reply.root.uri) === post.did) return []
    const [gate, ...others] = possible(this.#threadGates.get(reply.root.uri), post)
    if (!gate?.allow || others.length > 0) return []
    const thread = { owner: accountOf(reply.root.uri), root: reply.root.uri }
    return gate.allow.flatMap((rule) => (this.#admits(rule, post, thread) === true ? rule.$type.split('#')[1]! : []))
  }

  /** All versions of a post, the living one first. */
  versions(uri: string): TrueRecord[] {
    const living = this.#truth.records.get(uri)
    return [...(living ? [living] : []), ...(this.#truth.ended.get(uri) ?? [])]
  }

  /**
   * A reply belongs to the thread of its root when its parent is that root, which is no reply, or a reply that belongs
   * to the same thread.
   */
  #isMisplaced({ root, parent }: Reply): Verdict {
    const place = `${root.uri} ${parent.uri}`
    if (this.#places.has(place)) return this.#places.get(place)
    const parents = this.versions(parent.uri)
    const verdicts = parents.map(({ record }): Verdict => {
      const { reply } = record as PostFields
      const isOfThread = parent.uri === root.uri ? reply === undefined : reply?.root.uri === root.uri
      return isOfThread && reply ? this.#isMisplaced(reply) : !isOfThread
    })
    const verdict = agreed(this.#truth.records.has(parent.uri) ? verdicts : [...verdicts, true])
    this.#places.set(place, verdict)
    return verdict
  }

  /** Whether the gate of the thread lets the author of a reply not in. Who began the thread may always reply. */
  #isShutOut(reply: TrueRecord, root: string): Verdict {
    const owner = accountOf(root)
    if (owner === reply.did) return false
    return agreed(
      possible(this.#threadGates.get(root), reply).map((gate) => {
        if (!gate?.allow) return false
        return not(any(gate.allow.map((rule) => this.#admits(rule, reply, { owner, root }))))
      }),
    )
  }

  #admits(
    rule: { $type: string; list?: string },
    reply: TrueRecord,
    { owner, root }: { owner: string; root: string },
  ): Verdict {
    switch (rule.$type) {
      case `${THREADGATE}#mentionRule`:
        return this.#mentions(root, reply.did)
      case `${THREADGATE}#followerRule`:
        return held(this.#follows.get(`${reply.did} ${owner}`), reply)
      case `${THREADGATE}#followingRule`:
        return held(this.#follows.get(`${owner} ${reply.did}`), reply)
      case `${THREADGATE}#listRule`:
        return held(this.#items.get(`${rule.list} ${reply.did}`), reply)
      default:
        return false
    }
  }

  #mentions(uri: string, did: string): Verdict {
    const verdicts = this.versions(uri).map(({ record }) => mentionedIn(record).includes(did))
    return agreed(this.#truth.records.has(uri) ? verdicts : [...verdicts, false])
  }

  /** Whether the gate of a quoted post forbids to quote it. Its author always may. */
  #isNotToQuote(post: TrueRecord, quoted: string): Verdict {
    if (accountOf(quoted) === post.did) return false
    return agreed(
      possible(this.#postGates.get(quoted), post).map(
        (gate) => gate?.embeddingRules?.some(({ $type }) => $type === `${POSTGATE}#disableRule`) === true,
      ),
    )
  }
}

/** The accounts that a post mentions, in the order of its facets. */
export function mentionedIn(record: Record<string, unknown>): string[] {
  const { facets = [] } = record as PostFields
  const features = facets.flatMap((facet) => facet.features)
  return features.flatMap(({ $type, did }) => ($type === 'app.bsky.richtext.facet#mention' ? did! : []))
}

/** What all of them say. */
function agreed(verdicts: readonly Verdict[]): Verdict {
  const [first] = verdicts
  return verdicts.every((verdict) => verdict === first) ? first : undefined
}

function any(verdicts: readonly Verdict[]): Verdict {
  if (verdicts.includes(true)) return true
  return verdicts.includes(undefined) ? undefined : false
}

function not(verdict: Verdict): Verdict {
  return verdict === undefined ? undefined : !verdict
}

/** Whether a fact held when something was written. */
function held(spans: readonly Span<true>[] | undefined, when: When): Verdict {
  if (spans?.some((span) => isCertainly(span, when))) return true
  return spans?.some(({ first }) => first <= when.at) ? undefined : false
}

/** The facts of which one held when something was written. Undefined is one of them: there was none. */
function possible<T>(spans: readonly Span<T>[] | undefined, when: When): (T | undefined)[] {
  const begun = (spans ?? []).filter(({ first }) => first <= when.at)
  const facts = begun.map(({ fact }) => fact)
  return begun.some((span) => isCertainly(span, when)) ? facts : [...facts, undefined]
}

function isCertainly({ isOver, at }: Span<unknown>, { first }: When): boolean {
  return !isOver && at <= first
}

/** The spans of a collection's facts, by the key that each is looked up by. */
function spansOf<T>(
  truth: Truth,
  collection: string,
  factOf: (version: TrueRecord) => [key: unknown, fact: T],
): Map<string, Span<T>[]> {
  const spans = new Map<string, Span<T>[]>()
  const add = (version: TrueRecord, isOver: boolean): void => {
    const [name, fact] = factOf(version)
    const key = String(name)
    const span = { first: version.first, at: version.at, fact, isOver }
    const same = spans.get(key)
    if (same) same.push(span)
    else spans.set(key, [span])
  }
  for (const [, version] of truth.endedOf(collection)) add(version, true)
  for (const [, version] of truth.of(collection)) add(version, false)
  return spans
}

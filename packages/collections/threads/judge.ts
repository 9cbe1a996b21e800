/**
 * Judges replies and quotes. Pure: the rules for `invalidReplyRoot`, `violatesThreadGate` and `violatesEmbeddingRules`,
 * each in one place.
 *
 * A post is judged by what was true when it was written, not by what is true when it is indexed. So the order of
 * arrival does not matter. For example, a reply may arrive before its parent, or after a gate that was made later than
 * the reply: its verdict ends up the same. A post that arrives in the natural order is judged once.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { GateRule, PostGate, ThreadGate } from './gates.ts'

/** What judging a reply needs to know of the post above it. */
export interface ThreadPost {
  uri: string
  root: string | null
  parent: string | null
  invalidReplyRoot: boolean
}

/** A post that is to be judged: a reply, a quote, both or neither. */
export interface Judged {
  uri: string
  did: string
  root: string | null
  parent: string | null
  quotes: string | null
  /** When the post was written (TID). */
  at: string
}

/** What was true at the time of a post. */
export interface Facts {
  /**
   * The reply's parent as it was at the reply's time. A parent that still exists counts even if it seems to be younger
   * than the reply. Undefined: there is none.
   */
  parent(reply: Judged): ThreadPost | undefined
  threadGate(postUri: string, at: string): ThreadGate | undefined
  postGate(postUri: string, at: string): PostGate | undefined
  /** The accounts that the post mentioned. */
  mentions(postUri: string, at: string): ReadonlySet<string>
  follows(follower: string, followed: string, at: string): boolean
  inList(list: string, member: string, at: string): boolean
}

export interface Verdict {
  invalidReplyRoot: boolean
  violatesThreadGate: boolean
  violatesEmbeddingRules: boolean
}

/** The verdict on one post. A rule that does not apply to the post gives false. */
export function judge(post: Judged, facts: Facts): Verdict {
  const reply = post.root !== null && post.parent !== null
  return {
    invalidReplyRoot: reply && isReplyRootInvalid(post, facts.parent(post)),
    violatesThreadGate: reply && isForbidden(post, facts),
    violatesEmbeddingRules: post.quotes !== null && isQuoteForbidden(post.quotes, post, facts),
  }
}

/**
 * Whether a reply wrongly claims to be in the thread of `root`. The claim is right in two cases: the parent is the root
 * itself and is no reply; or the parent is a reply whose own claim to the same root is right. Without a parent the
 * claim is wrong.
 */
export function isReplyRootInvalid(reply: Pick<Judged, 'root' | 'parent'>, parent: ThreadPost | undefined): boolean {
  if (!parent || parent.invalidReplyRoot) return true
  return reply.parent === reply.root ? parent.root !== null : parent.root !== reply.root
}

/**
 * A reply violates the gate of its thread if no rule of the gate admitted its author when the reply was written. The
 * owner of the thread may always reply.
 */
function isForbidden({ did, root, at }: Judged, facts: Facts): boolean {
  const owner = didOfUri(root!)
  if (owner === did) return false
  const gate = facts.threadGate(root!, at)
  if (!gate?.allow) return false
  return !gate.allow.some((rule) => admits(rule, { did, owner, root: root!, at }, facts))
}

function admits(
  rule: GateRule,
  reply: { did: string; owner: string; root: string; at: string },
  facts: Facts,
): boolean {
  const { did, owner, root, at } = reply
  switch (rule.rule) {
    case 'mentioned':
      return facts.mentions(root, at).has(did)
    case 'follower':
      return facts.follows(did, owner, at)
    case 'following':
      return facts.follows(owner, did, at)
    case 'list':
      return facts.inList(rule.list, did, at)
  }
}

/**
 * A quote violates the post gate if the gate was closed when the quote was written. An account may always quote its own
 * posts.
 */
function isQuoteForbidden(quoted: string, { did, at }: Judged, facts: Facts): boolean {
  return didOfUri(quoted) !== did && facts.postGate(quoted, at)?.closed === true
}

/**
 * Judges replies and quotes. Pure: the rules for `invalidReplyRoot`, `violatesThreadGate` and `violatesEmbeddingRules`, each in one place.
 *
 * A post is judged by what was true when it was written, not by what is true when it happens to be indexed. So a reply that arrives before its parent, or
 * after a gate that was made later, ends as if the order had been right; and what is judged once in the natural order is never judged anew.
 */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { GateRule, PostGate, ThreadGate } from './gates.ts'

/** A post as its children and its gate see it. */
export interface ThreadPost {
  uri: string
  root: string | null
  parent: string | null
  invalidReplyRoot: boolean
}

/** A reply or quote that is to be judged. */
export interface Judged {
  uri: string
  did: string
  root: string | null
  parent: string | null
  quotes: string | null
  /** When it was written (TID). */
  at: string
}

/** What was true at a post's time. */
export interface Facts {
  /** The parent, if there was one; a parent that lives counts whenever it was written. */
  parent(reply: Judged): ThreadPost | undefined
  threadGate(postUri: string, at: string): ThreadGate | undefined
  postGate(postUri: string, at: string): PostGate | undefined
  /** Whom the root post mentioned. */
  mentions(postUri: string, at: string): ReadonlySet<string>
  follows(follower: string, followed: string, at: string): boolean
  inList(list: string, member: string, at: string): boolean
}

export interface Verdict {
  invalidReplyRoot: boolean
  violatesThreadGate: boolean
  violatesEmbeddingRules: boolean
}

/** The verdict on one post; false for rules that do not concern it. */
export function judge(post: Judged, facts: Facts): Verdict {
  const reply = post.root !== null && post.parent !== null
  return {
    invalidReplyRoot: reply && isReplyRootInvalid(post, facts.parent(post)),
    violatesThreadGate: reply && isForbidden(post, facts),
    violatesEmbeddingRules: post.quotes !== null && isQuoteForbidden(post.quotes, post, facts),
  }
}

/**
 * A reply claims a thread. The claim holds if its parent is the root itself, being no reply, or is in that thread by a claim that holds. A reply to
 * nothing claims too much.
 */
export function isReplyRootInvalid(reply: Pick<Judged, 'root' | 'parent'>, parent: ThreadPost | undefined): boolean {
  if (!parent || parent.invalidReplyRoot) return true
  return reply.parent === reply.root ? parent.root !== null : parent.root !== reply.root
}

/** A reply violates the gate of its thread if, when it was written, none of the gate's rules let its author in. Owners may always reply. */
function isForbidden({ did, root, at }: Judged, facts: Facts): boolean {
  const owner = didOfUri(root!)
  if (owner === did) return false
  const gate = facts.threadGate(root!, at)
  if (!gate?.allow) return false
  return !gate.allow.some((rule) => lets(rule, { did, owner, root: root!, at }, facts))
}

function lets(rule: GateRule, reply: { did: string; owner: string; root: string; at: string }, facts: Facts): boolean {
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

/** A quote violates the post gate if it was closed when the quote was written. One may always quote oneself. */
function isQuoteForbidden(quoted: string, { did, at }: Judged, facts: Facts): boolean {
  return didOfUri(quoted) !== did && facts.postGate(quoted, at)?.closed === true
}

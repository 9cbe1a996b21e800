/** Reads thread gates and post gates from their records, and makes the keys of facts. Pure. */

export interface ThreadGate {
  /** Who may reply. Null: everybody. Otherwise an author may reply when at least one of these rules admits them. */
  allow: GateRule[] | null
  hiddenReplies: string[]
}

export type GateRule = { rule: 'mentioned' | 'follower' | 'following' } | { rule: 'list'; list: string }

export interface PostGate {
  /** Only the author of the post may quote it. */
  closed: boolean
}

const THREADGATE = 'app.bsky.feed.threadgate'

/** An unknown rule admits nobody. */
export function readThreadGate(record: {
  allow?: { $type?: string; list?: string }[]
  hiddenReplies?: string[]
}): ThreadGate {
  return {
    allow: record.allow ? record.allow.flatMap(readRule) : null,
    hiddenReplies: record.hiddenReplies ?? [],
  }
}

function readRule({ $type, list }: { $type?: string; list?: string }): GateRule[] {
  switch ($type) {
    case `${THREADGATE}#mentionRule`:
      return [{ rule: 'mentioned' }]
    case `${THREADGATE}#followerRule`:
      return [{ rule: 'follower' }]
    case `${THREADGATE}#followingRule`:
      return [{ rule: 'following' }]
    case `${THREADGATE}#listRule`:
      return list === undefined ? [] : [{ rule: 'list', list }]
    default:
      return []
  }
}

/** A post gate closes the post if it has the rule that forbids embedding. */
export function readPostGate(record: { embeddingRules?: { $type?: string }[] }): PostGate {
  return { closed: (record.embeddingRules ?? []).some((rule) => rule.$type === 'app.bsky.feed.postgate#disableRule') }
}

/** Keys of facts in `past_fact`. A gate's key has the URI of its post (`at://did/app.bsky.feed.post/key`). */
export const threadGateKey = (postUri: string): string => `threadgate ${postUri}`
export const postGateKey = (postUri: string): string => `postgate ${postUri}`
export const followKey = (follower: string, followed: string): string => `follow ${follower} ${followed}`
export const listItemKey = (list: string, member: string): string => `listitem ${list} ${member}`

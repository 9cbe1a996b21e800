/** What a thread gate and a post gate say, read from their records. Pure. */

export interface ThreadGate {
  /** Who may reply; null: everybody. Each entry is one rule, any of them suffices. */
  allow: GateRule[] | null
  hiddenReplies: string[]
}

export type GateRule = { rule: 'mentioned' | 'follower' | 'following' } | { rule: 'list'; list: string }

export interface PostGate {
  /** Nobody else may quote. */
  closed: boolean
}

const THREADGATE = 'app.bsky.feed.threadgate'

export function readThreadGate(record: {
  allow?: { $type?: string; list?: string }[]
  hiddenReplies?: string[]
}): ThreadGate {
  return {
    allow: record.allow ? record.allow.flatMap(readRule) : null,
    hiddenReplies: record.hiddenReplies ?? [],
  }
}

/** A rule of a kind that we do not know allows nobody. */
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

export function readPostGate(record: { embeddingRules?: { $type?: string }[] }): PostGate {
  return { closed: (record.embeddingRules ?? []).some((rule) => rule.$type === 'app.bsky.feed.postgate#disableRule') }
}

/** `at://did/app.bsky.feed.post/key` → the key under which facts about its gate are remembered. */
export const threadGateKey = (postUri: string): string => `threadgate ${postUri}`
export const postGateKey = (postUri: string): string => `postgate ${postUri}`
export const followKey = (follower: string, followed: string): string => `follow ${follower} ${followed}`
export const listItemKey = (list: string, member: string): string => `listitem ${list} ${member}`

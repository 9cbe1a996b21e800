/**
 * The chain of a repository's commits: decides whether a verified commit follows the state that we have. The input is
 * small (no blocks), so the caller can keep it and ask again when the state has changed meanwhile. The caller must have
 * dropped replays (`rev` not newer). https://atproto.com/specs/sync
 */
import type { Cid } from './cid.ts'
import type { CommitFrame } from './frame.ts'
import { EMPTY_TREE } from './mst-node.ts'

/** The head of a repository as we know it. */
export interface ChainState {
  rev: string
  /** The root of the repository's tree. */
  data: Cid
}

/**
 * A stored state, shortened to save memory: `data` may be only the beginning of the root's CID, 20 characters or more.
 */
export interface KnownState {
  rev: string
  data: string
}

/**
 * The result of checking a commit's proof. `legacy`: the commit has no `prevData`, so the ops were only looked up in
 * the new tree.
 */
export type Proof = 'complete' | 'incomplete' | 'legacy' | 'unchecked'

/** Why a commit does not follow the state that we have. Used as a metric label. */
export type GapCause = (typeof GAP_CAUSES)[number]
export const GAP_CAUSES = [
  'unknown', // we have no state of this repository, and the commit is not proven to be its first
  'since', // the commit's `since` is not the rev that we have
  'prev-data', // `since` is the rev that we have, but `prevData` is not the tree that we have
  'too-big', // the host left the ops out
  'incomplete-proof', // the commit's blocks do not suffice to undo its ops
] as const

/** What a commit states about its place in the chain, and the result of checking its proof. */
export interface ChainLinks {
  rev: string
  since: string | null
  prevData: Cid | null
  tooBig: boolean
  proof: Proof
}

export type ChainStep = { kind: 'apply' } | { kind: 'base' } | { kind: 'gap'; cause: GapCause }

/** Decides whether a verified commit that is newer than `state` follows it. */
export function followChain(links: ChainLinks, state: KnownState | null): ChainStep {
  const cause = gapOf(links, state)
  if (cause !== undefined) return { kind: 'gap', cause }
  return { kind: state === null ? 'base' : 'apply' }
}

export function linksOf({ rev, since, prevData, tooBig }: CommitFrame): Omit<ChainLinks, 'proof'> {
  return { rev, since, prevData, tooBig }
}

export type SyncStep =
  /** The tree is the one that we have; the rev may be newer. */
  | { kind: 'same'; state: ChainState }
  /** Another tree than ours: a resync is needed. */
  | { kind: 'resync'; state: ChainState }
  | { kind: 'duplicate' }

/** Decides what a verified `#sync` means for the state that we have. */
export function followSync(next: ChainState, state: KnownState | null): SyncStep {
  if (state === null || next.rev > state.rev) {
    return { kind: state !== null && next.data.startsWith(state.data) ? 'same' : 'resync', state: next }
  }
  // Another tree at the same rev: one of the two states is a fork. An export tells which.
  if (next.rev === state.rev && !next.data.startsWith(state.data)) return { kind: 'resync', state: next }
  return { kind: 'duplicate' }
}

/**
 * Whether the commit claims to be the first: it has no `since`, and its `prevData` is null or the empty tree. The proof
 * shows whether the claim is true.
 */
export function isFirst({ since, prevData }: Pick<ChainLinks, 'since' | 'prevData'>): boolean {
  return since === null && (prevData === null || prevData === EMPTY_TREE)
}

function gapOf(links: ChainLinks, state: KnownState | null): GapCause | undefined {
  if (links.tooBig) return 'too-big'
  if (state === null) return isFirst(links) && links.proof !== 'incomplete' ? undefined : 'unknown'
  if (links.since !== state.rev) return 'since'
  if (links.prevData !== null && !links.prevData.startsWith(state.data)) return 'prev-data'
  return links.proof === 'incomplete' ? 'incomplete-proof' : undefined
}

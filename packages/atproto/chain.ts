/**
 * The chain of a repository's commits: does what was found true follow what we have? Small and without bytes, so that it can be
 * asked again when the state has changed meanwhile. Replays (`rev` not newer) are for the caller to rule out.
 * https://atproto.com/specs/sync
 */
import type { Cid } from './cid.ts'
import type { CommitFrame } from './frame.ts'
import { EMPTY_TREE } from './mst-node.ts'

/** The head of a repository as we know it. */
export interface ChainState {
  rev: string
  /** The root of its tree. */
  data: Cid
}

/** The same as somebody keeps it who has little room: `data` may be only the beginning of the root's CID, 20 characters or more. */
export interface KnownState {
  rev: string
  data: string
}

/** What a commit's proof was found to be. `legacy`: no `prevData`, so the ops were only looked up in the new tree. */
export type Proof = 'complete' | 'incomplete' | 'legacy' | 'unchecked'

/** Why a commit does not follow what we have; fit for a metric label. */
export type GapCause = (typeof GAP_CAUSES)[number]
export const GAP_CAUSES = [
  'unknown', // we know nothing of this repository, and it is not shown to have begun here
  'since', // not the successor of the rev we have
  'prev-data', // the successor by rev, of another tree
  'too-big', // its ops were left out
  'incomplete-proof', // its blocks do not suffice to undo its ops
] as const

/** What a commit says of its place in the chain, and what its proof was found to be. */
export interface ChainLinks {
  rev: string
  since: string | null
  prevData: Cid | null
  tooBig: boolean
  proof: Proof
}

export type ChainStep = { kind: 'apply' } | { kind: 'base' } | { kind: 'gap'; cause: GapCause }

/** Does a true commit, newer than `state`, follow it? */
export function followChain(links: ChainLinks, state: KnownState | null): ChainStep {
  const cause = gapOf(links, state)
  if (cause !== undefined) return { kind: 'gap', cause }
  return { kind: state === null ? 'base' : 'apply' }
}

export function linksOf({ rev, since, prevData, tooBig }: CommitFrame): Omit<ChainLinks, 'proof'> {
  return { rev, since, prevData, tooBig }
}

export type SyncStep =
  /** The state we have, perhaps at a newer rev. */
  | { kind: 'same'; state: ChainState }
  /** Another state than ours, newer: a resync is needed. */
  | { kind: 'resync'; state: ChainState }
  | { kind: 'duplicate' }

/** What a true `#sync` says to whoever is at `state`. */
export function followSync(next: ChainState, state: KnownState | null): SyncStep {
  if (state === null || next.rev > state.rev) {
    return { kind: state !== null && next.data.startsWith(state.data) ? 'same' : 'resync', state: next }
  }
  // At the same rev another tree: one of the two is a fork, and an export tells which.
  if (next.rev === state.rev && !next.data.startsWith(state.data)) return { kind: 'resync', state: next }
  return { kind: 'duplicate' }
}

/** It follows no other commit, and says that the tree before it was empty; whether it was, its proof shows. */
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

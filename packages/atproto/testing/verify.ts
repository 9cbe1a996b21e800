/**
 * Is this frame true, and does it follow what we have? The two questions asked one after the other, as the ingester asks them far apart:
 * a replay ends before anything is parsed.
 */
import { followChain, followSync, linksOf, type GapCause, type KnownState, type SyncStep } from '../chain.ts'
import { checkCommit, checkSync, type CommitRefusal, type VerifiedCommit, type VerifyOptions } from '../commit.ts'
import type { CommitFrame, SyncFrame } from '../frame.ts'

interface Refused {
  kind: 'refused'
  reason: CommitRefusal
  detail: string
}

export type CommitVerdict =
  /** The next commit. */
  | ({ kind: 'apply' } & VerifiedCommit)
  /** The first commit of a repository that we know nothing of: the state starts here. */
  | ({ kind: 'base' } & VerifiedCommit)
  /** True in itself, but not the next one: a resync is needed. */
  | ({ kind: 'gap'; cause: GapCause } & VerifiedCommit)
  /** Not newer than what we have. */
  | { kind: 'duplicate' }
  | Refused

/**
 * The verdict on a commit.
 * @param state the head as we know it, or null
 * @param key the account's signing key, a did:key, or undefined when it has none; only read with `full`
 */
export function verifyCommit(
  frame: CommitFrame,
  state: KnownState | null,
  key: string | undefined,
  options: VerifyOptions,
): CommitVerdict {
  if (state !== null && frame.rev <= state.rev) return { kind: 'duplicate' }
  const check = checkCommit(frame, key, options)
  if (check.kind === 'refused') return check
  return { ...check, ...followChain({ ...linksOf(frame), proof: check.proof }, state) }
}

/** The verdict on a `#sync`. A replay is recognized only after its signature: nothing would be saved by being early. */
export function verifySync(
  frame: SyncFrame,
  state: KnownState | null,
  key: string | undefined,
  options: VerifyOptions,
): SyncStep | Refused {
  const check = checkSync(frame, key, options)
  return check.kind === 'true' ? followSync(check.state, state) : check
}

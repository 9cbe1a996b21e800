/**
 * Verifies a frame, and then decides whether it follows the state that we have. The ingester does these two steps in
 * different places; this does one after the other. A replay is recognised before anything is parsed.
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
  /** The commit follows the state. */
  | ({ kind: 'apply' } & VerifiedCommit)
  /** The first commit of a repository of which there is no state: the state starts here. */
  | ({ kind: 'base' } & VerifiedCommit)
  /** The commit is valid, but does not follow the state: a resync is needed. */
  | ({ kind: 'gap'; cause: GapCause } & VerifiedCommit)
  /** Not newer than the state. */
  | { kind: 'duplicate' }
  | Refused

/**
 * The verdict on a commit.
 * @param state the known head of the repository, or null
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

/**
 * The verdict on a `#sync`. A replay is recognised only after the signature is checked: to do it earlier would save
 * nothing.
 */
export function verifySync(
  frame: SyncFrame,
  state: KnownState | null,
  key: string | undefined,
  options: VerifyOptions,
): SyncStep | Refused {
  const check = checkSync(frame, key, options)
  return check.kind === 'true' ? followSync(check.state, state) : check
}

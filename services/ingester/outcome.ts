/**
 * What became of a frame. Every frame that a relay sends ends in exactly one of these outcomes. The ledger in Redis
 * counts them in the step that moves the cursor past the frame. So no frame is counted twice or left out, whatever dies
 * in between.
 *
 * Frames may end before an earlier one for which the cursor waits. If the process dies then, they are read again, and
 * counted as what they are by then: duplicates.
 */
import { COMMIT_REFUSALS } from '@sluice/atproto/commit.ts'
import { OP_REFUSALS } from '@sluice/atproto/commit-events.ts'
import { FRAME_REFUSALS } from '@sluice/atproto/frame.ts'

/** Refusals that are ours, and not of the bytes. */
const OWN_REFUSALS = [
  'seq-not-rising', // a relay counts backwards on one connection
  'identity-unavailable', // the DID could not be resolved for long; a resync was asked for
  'account-inactive', // the account's host said that it is not active
  'skipped-account', // INGESTER_SKIP_DIDS
] as const

export const REFUSALS = [...new Set([...FRAME_REFUSALS, ...COMMIT_REFUSALS, ...OP_REFUSALS, ...OWN_REFUSALS])]
export type Refusal = (typeof REFUSALS)[number]

const PLAIN_OUTCOMES = [
  'appended', // at least one event went to the stream
  'other-shard', // of an account that another shard brings (INGESTER_SHARD): not looked at
  'filtered', // true, and of collections that nobody wants
  'empty', // true, and without ops: the chain moved
  'duplicate', // not newer than what we have
  'resync', // its repository is to be fetched anew instead
  'unchanged', // a #sync of the state that we have
  'unknown-type', // a type of frame that we do not know
] as const

export type Outcome = (typeof PLAIN_OUTCOMES)[number] | `refused:${Refusal}`
export const OUTCOMES: readonly Outcome[] = [
  ...PLAIN_OUTCOMES,
  ...REFUSALS.map((reason): Outcome => `refused:${reason}`),
]

export const refused = (reason: Refusal): Outcome => `refused:${reason}`

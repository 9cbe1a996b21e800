/**
 * Whether a label may be believed: its author's signature decides. A label of an author without a declared key is
 * believed only from a labeler that an operator has named.
 */
import { labelSignature } from '@sluice/atproto/label.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import type { Label } from '@sluice/events/label-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { Account, SigningKeys } from './signing-keys.ts'
import { parseUpstream } from './upstream.ts'

/** What became of a label; fit for a metric label. */
export const LABEL_OUTCOMES = [
  'appended',
  'unsigned', // its author declares a key, and it carries no signature
  'bad-signature',
  'bad-author', // not a DID, or, from a labeler that nobody configured, somebody else
  'undeclared', // from a labeler that nobody configured: its document names no key any more, or another host
  'malformed', // not a label
] as const
export type LabelOutcome = (typeof LABEL_OUTCOMES)[number]

/** A host that nobody configured, and the labelers that were found to send their labels from it. */
export interface Declared {
  host: string
  dids: ReadonlySet<string>
}

/**
 * @param declared who may have made the label; undefined when the labeler was configured, and is trusted to pass on
 * labels of others
 * @throws IdentityUnavailableError when the author cannot be resolved at present; AbortError on the signal
 */
export async function checkLabel(
  label: Label,
  declared: Declared | undefined,
  keys: SigningKeys,
  signal: AbortSignal,
): Promise<LabelOutcome> {
  if (!isDid(label.src) || declared?.dids.has(label.src) === false) return 'bad-author'
  const host = declared?.host
  const outcome = verify(label, keys.peek(label.src) ?? (await keys.resolve(label.src, signal)), host)
  if (outcome === 'appended') return outcome
  // The cached identity may be older than the key.
  return verify(label, await keys.refresh(label.src, signal), host)
}

/**
 * Whether the document of a labeler names this host and a key. Without a key nobody could tell its labels from a
 * stranger's.
 */
function declares({ labeler }: Account, host: string): boolean {
  return labeler?.signingKey !== undefined && parseUpstream(labeler.endpoint)?.host === host
}

function verify(label: Label, author: Account, host: string | undefined): LabelOutcome {
  if (host !== undefined && !declares(author, host)) return 'undeclared'
  const key = author.labeler?.signingKey
  if (key === undefined) return 'appended'
  try {
    const signature = labelSignature(label, key)
    if (signature === 'good') return 'appended'
    return signature === 'absent' ? 'unsigned' : 'bad-signature'
  } catch (error) {
    if (error instanceof RefusedError) return 'bad-author'
    throw error
  }
}

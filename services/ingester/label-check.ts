/** Whether a label may be believed: by the signature of its author, when the author declares a key. */
import { labelSignature } from '@sluice/atproto/label.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import type { Label } from '@sluice/events/label-event.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'
import type { SigningKeys } from './signing-keys.ts'

/** What became of a label; fit for a metric label. */
export const LABEL_OUTCOMES = [
  'appended',
  'unsigned', // its author declares a key, and it carries no signature
  'bad-signature',
  'bad-author', // not a DID, or, from a labeler that nobody configured, somebody else
  'malformed', // not a label
] as const
export type LabelOutcome = (typeof LABEL_OUTCOMES)[number]

/**
 * @param author who must have made it; undefined when the labeler was configured, and is trusted to pass on labels of others
 * @throws IdentityUnavailableError when the author cannot be resolved at present, AbortError on the signal
 */
export async function checkLabel(
  label: Label,
  author: string | undefined,
  keys: SigningKeys,
  signal: AbortSignal,
): Promise<LabelOutcome> {
  if (!isDid(label.src) || (author !== undefined && label.src !== author)) return 'bad-author'
  const { labeler } = keys.peek(label.src) ?? (await keys.resolve(label.src, signal))
  const outcome = judge(label, labeler?.signingKey)
  if (outcome === 'appended') return outcome
  // The key may be newer than what is cached.
  const fresh = await keys.refresh(label.src, signal)
  return judge(label, fresh.labeler?.signingKey)
}

function judge(label: Label, key: string | undefined): LabelOutcome {
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

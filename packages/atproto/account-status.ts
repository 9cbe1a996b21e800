/** Why an account is not active: a word that its host chooses, and so whoever runs one. It is stored, shown and told on as it is. */

/** The longest that atproto knows is `desynchronized`, 14 characters. */
const CHARS_MAX = 64

/**
 * `{status}` when it is a short text without control characters, and nothing otherwise: what else a host says there is as good as not said. PostgreSQL
 * takes no U+0000, Redis' cjson no half of a surrogate pair, and the event of a stranger's account is no reason for a dead letter.
 */
export function accountStatus(status: unknown): { status?: string } {
  if (typeof status !== 'string' || status.length > CHARS_MAX) return {}
  return status.isWellFormed() && !/\p{Cc}/u.test(status) ? { status } : {}
}

/** Why an account is not active: a word that its host chooses, and so whoever runs one. It is stored, shown and told on as it is. */

/** The longest that atproto knows is `desynchronized`, 14 characters. */
const CHARS_MAX = 64

/**
 * `{status}` when it is a short text without control characters, and nothing otherwise: what else a host says there is as good as not said. PostgreSQL
 * takes no U+0000, and the event of a stranger's account is no reason for a dead letter.
 */
export function accountStatus(status: unknown): { status?: string } {
  return typeof status === 'string' && status.length <= CHARS_MAX && !/\p{Cc}/u.test(status) ? { status } : {}
}

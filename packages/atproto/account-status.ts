/**
 * The status of an inactive account (`takendown`, `deactivated`, …). The account's host chooses the word, and anybody
 * can run a host. The word is stored, shown and passed on unchanged.
 */

/** The longest status that atproto defines is `desynchronized`, 14 characters. */
const CHARS_MAX = 64

/**
 * `{status}` when the status is a short text without control characters, otherwise `{}`: any other value is treated as
 * absent. PostgreSQL cannot store U+0000, and Redis' cjson cannot decode half of a surrogate pair. Without this check a
 * stranger's account event with such a status would become a dead letter.
 */
export function accountStatus(status: unknown): { status?: string } {
  if (typeof status !== 'string' || status.length > CHARS_MAX) return {}
  return status.isWellFormed() && !/\p{Cc}/u.test(status) ? { status } : {}
}

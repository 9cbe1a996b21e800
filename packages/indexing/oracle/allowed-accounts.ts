/** Allowed differences in what remains of deleted accounts. */
import { changed, type Allowance, type Both } from './allowance.ts'
import type { Difference } from './compare.ts'
import { areRight, countersOf, valuesOf } from './counts.ts'
import type { Row } from './tables.ts'

export const accountAllowances: readonly Allowance[] = [
  {
    id: 'rows of a deleted account',
    tables: ['feed_item', 'quote', 'starter_pack', 'verification', 'duplicate_record'],
    theirs: 'Feed items, quotes, starter packs, verifications and duplicates of a deleted account stay.',
    ours: 'Everything of a deleted account goes: whoever deletes an account must find nothing of it.',
    explains(difference, both) {
      return difference.kind === 'only official' && both.accountDeleted(difference.key)
    },
  },
  {
    id: "a deleted account's places in its threads",
    tables: ['op_thread_reply'],
    theirs: "A deleted account's replies in its own threads look as though they were there.",
    ours: 'They are marked as deleted, as if each of them had been deleted. The walk through the thread still passes over them.',
    explains(difference, both) {
      const found = changed(difference, 'deletedAt')
      return found?.table === 'op_thread_reply' && both.accountDeleted(found.ours.uri) && found.ours.deletedAt !== null
    },
  },
  {
    id: 'what a deleted account would be told',
    tables: ['notification'],
    theirs: 'What an account was told is deleted with it. What others do after that is still told to it.',
    ours: 'The same, but a purge is carried out some time after the deletion, and deletes everything that was told until then.',
    explains(difference, both) {
      if (difference.table !== 'notification' || difference.kind === 'column') return false
      const row: Row = difference.kind === 'only ours' ? difference.ours : difference.official
      return both.accountDeleted(row.did)
    },
  },
  {
    id: 'what others were told by a deleted account',
    tables: ['notification'],
    theirs: 'Everything that came from a deleted account is deleted.',
    ours: 'The same, except that those whom it verified are told that the verification ended.',
    explains(difference, both) {
      if (difference.table !== 'notification' || difference.kind !== 'only ours') return false
      const { author, reason } = difference.ours
      return both.accountDeleted(author) && (reason === 'verified' || reason === 'unverified')
    },
  },
  {
    id: 'counters after a deletion',
    tables: ['post_agg', 'profile_agg'],
    theirs:
      'The likes, reposts, replies and follows of a deleted account stay in the counters of other accounts until the next one of the same kind.',
    ours: 'Counters always equal the rows.',
    explains: (difference, both) => isStaleCount(difference, both),
  },
]

function isStaleCount(difference: Difference, both: Both): boolean {
  const columns = countersOf(difference)
  if (columns.length === 0 || both.happened.deleted.size === 0 || !areRight(difference, both.ours, columns))
    return false
  const [theirs, ours] = [both.official, both.ours].map((side) => valuesOf(difference, side, columns))
  return columns.every((_, i) => theirs![i]! >= ours![i]!)
}

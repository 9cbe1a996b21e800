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
    ours: 'Everything of a deleted account goes: who deletes an account must find nothing of it.',
    explains(difference, both) {
      return difference.kind === 'only official' && both.accountDeleted(difference.key)
    },
  },
  {
    id: "a deleted account's places in its threads",
    tables: ['op_thread_reply'],
    theirs: "A deleted account's replies in its own threads look as though they were there.",
    ours: 'They are marked as deleted, as after the deletion of each of them: the walk through the thread still passes over them.',
    explains(difference, both) {
      const found = changed(difference, 'deletedAt')
      return found?.table === 'op_thread_reply' && both.accountDeleted(found.ours.uri) && found.ours.deletedAt !== null
    },
  },
  {
    id: 'what a deleted account would be told',
    tables: ['notification'],
    theirs: 'What others do after an account was deleted is told to it all the same; what was told before is deleted.',
    ours: 'Likewise, but a purge is carried out some time after the deletion, and takes everything along that was told until then.',
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
    ours: 'Likewise, save that who was verified by it hears of the end of the verification.',
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
      "The likes, reposts, replies and follows of a deleted account are still counted in other accounts' counters, until the next of the same kind.",
    ours: 'Counters equal the rows, always.',
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

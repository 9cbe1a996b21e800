/** Allowed differences in which of several records that say the same has the row. */
import { holderOf, holderRow, lone, PAIR_TABLES, type Allowance, type Both } from './allowance.ts'
import type { Difference } from './compare.ts'

export const duplicateAllowances: readonly Allowance[] = [
  {
    id: 'a promoted duplicate',
    tables: ['duplicate_record'],
    theirs: 'A duplicate that has taken over keeps its row in `duplicate_record`.',
    ours: 'It is a duplicate no longer.',
    explains({ kind, table, key }, { ours }) {
      return kind === 'only official' && table === 'duplicate_record' && holderRow(ours, key) !== undefined
    },
  },
  {
    id: 'the feed item of a second repost',
    tables: ['feed_item'],
    theirs: 'A repost that is a duplicate has a feed item all the same: followers see the post reposted twice.',
    ours: 'A duplicate has no rows until it takes over.',
    explains({ kind, table, key }, { official, ours }) {
      if (kind !== 'only official' || table !== 'feed_item') return false
      return [official, ours].some((side) => side.at('duplicate_record', key).length > 0)
    },
  },
  {
    id: 'the lowest URI has the row',
    tables: ['duplicate_record', 'feed_item', ...PAIR_TABLES],
    theirs: 'Of several records that say the same, the one that arrived first has the row.',
    ours: 'The one with the lowest URI has it, so the order of arrival does not matter. Record keys are clocks, so it is nearly always the same one.',
    explains: (difference, both) => isOtherHolder(difference, both),
  },
  {
    id: 'a third duplicate',
    tables: ['duplicate_record', 'feed_item', ...PAIR_TABLES],
    theirs:
      'When a record goes and one of its duplicates takes over, the others still wait for the one that is gone: nobody takes over from the second.',
    ours: 'The others wait for the one that took over.',
    explains: (difference, both) => isOrphan(difference, both),
  },
  {
    id: 'the duplicates of an edited record',
    tables: ['duplicate_record', ...PAIR_TABLES],
    theirs:
      'When an edit makes a record say something else, its duplicates go on waiting for it: none of them takes over before it is deleted.',
    ours: 'One of them takes over, as after a deletion, because the account still says it.',
    explains: (difference, both) => isForsaken(difference, both),
  },
  {
    id: 'a waiting opt-out takes over',
    tables: ['reference_list_opt_out'],
    theirs:
      'When an opt-out is deleted, a second one of the same list is not promoted: the account counts as a member again, against its word.',
    ours: 'Opt-outs are promoted as all other duplicates are.',
    explains({ kind, table, key }, both) {
      const [waiting] = both.official.at('duplicate_record', key)
      return kind === 'only ours' && table === 'reference_list_opt_out' && both.wasRemoved(waiting?.duplicateOf)
    },
  },
]

/** Whether both sides hold the pair by different records, and ours has the lower URI. */
function isOtherHolder(difference: Difference, { official, ours }: Both): boolean {
  const { kind, table, key } = difference
  if (kind === 'column') {
    if (table !== 'duplicate_record' || difference.column !== 'duplicateOf') return false
    return String(difference.ours.duplicateOf) < String(difference.official.duplicateOf)
  }
  if (!lone(difference)) return false
  const inOurs = holderRow(ours, key)
  const inTheirs = holderRow(official, key)
  if (inOurs && !inTheirs) {
    const holder = holderOf(official, inOurs)
    return holder !== undefined && String(holder.uri) > key
  }
  if (inTheirs && !inOurs) {
    const holder = holderOf(ours, inTheirs)
    return holder !== undefined && String(holder.uri) < key
  }
  return false
}

/** Whether the record waits, in the official database, for a record that is gone. */
function isOrphan({ kind, key }: Difference, both: Both): boolean {
  if (kind === 'only official') return false
  const [waiting] = both.official.at('duplicate_record', key)
  return waiting !== undefined && both.wasRemoved(waiting.duplicateOf)
}

/**
 * Whether the record waits, in the official database, for a record that an edit made say something else. Nobody holds
 * there what the waiting record says.
 */
function isForsaken({ kind, table, key }: Difference, { official, ours, happened }: Both): boolean {
  const [waiting] = official.at('duplicate_record', key)
  const holder = waiting && holderRow(official, waiting.duplicateOf)
  if (kind === 'only official' || !holder || happened.saysTheSame(key, String(waiting.duplicateOf))) return false
  if (table !== 'duplicate_record') return true
  const [ourWaiting] = ours.at('duplicate_record', key)
  return ourWaiting !== undefined && happened.saysTheSame(key, String(ourWaiting.duplicateOf))
}

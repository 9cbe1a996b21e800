/** Allowed differences in the rows of records, and in counters. */
import { collectionOfUri } from '@sluice/collections/define.ts'
import { changed, lone, PAIR_TABLES, type Allowance } from './allowance.ts'
import { areRight, countersOf } from './counts.ts'
import type { Tables } from './tables.ts'

const WITH_TIMES = ['profile', 'feed_item', 'list', ...PAIR_TABLES] as const

export const rowAllowances: readonly Allowance[] = [
  {
    id: 'gate flags: null is false',
    tables: ['post'],
    theirs:
      '`hasThreadGate` and `hasPostGate` are null until a gate comes and false after it is gone; a post that is edited forgets its gates.',
    ours: 'False whenever the post has no gate, true whenever it has one, edited or not. Readers take null for false.',
    explains(difference, { ours }) {
      const found = changed(difference, 'hasThreadGate', 'hasPostGate')
      if (!found) return false
      const gates = ours.all(found.column === 'hasThreadGate' ? 'thread_gate' : 'post_gate')
      const gated = gates.some(({ postUri }) => postUri === found.key)
      return Boolean(found.ours[found.column]) === gated && !found.official[found.column]
    },
  },
  {
    id: 'reply flags: null is false',
    tables: ['post'],
    theirs: 'Of a reply that breaks one rule, the flag of the other is false; of one that breaks none, both stay null.',
    ours: 'Each flag is judged by itself. Readers take null for false.',
    explains(difference) {
      const found = changed(difference, 'invalidReplyRoot', 'violatesThreadGate', 'violatesEmbeddingRules')
      return found !== undefined && !found.official[found.column] && !found.ours[found.column]
    },
  },
  {
    id: 'a reply before its parent',
    tables: ['post'],
    theirs:
      'A reply that was indexed before its parent, or below such a reply, has an invalid root for ever: it depends on the order of arrival. So has the reply to a post whose first valid version is newer than the reply.',
    ours: 'It is judged by the parent as soon as that is there.',
    explains(difference, both) {
      const found = changed(difference, 'invalidReplyRoot')
      return found?.official.invalidReplyRoot === true && both.happened.hangsOnWhatCameTooSoon(found.key)
    },
  },
  {
    id: 'a reply to what is no post',
    tables: ['post'],
    theirs:
      'A reply to a record that is no post (a list, a feed generator) has a valid root while that record is there, and so have the replies below it.',
    ours: 'A thread begins with a post: their root is invalid. No reader reads the column.',
    explains(difference, { ours }) {
      const found = changed(difference, 'invalidReplyRoot')
      return found?.ours.invalidReplyRoot === true && !found.official.invalidReplyRoot && hangsOnNoPost(ours, found.key)
    },
  },
  {
    id: 'written again without a change',
    tables: ['record', ...WITH_TIMES],
    theirs: 'A record that is written again as it was is indexed again: `indexedAt` moves.',
    ours: 'Nothing has changed, so only the rev is written, also if the record was changed in between and both versions came in one batch. Posts are indexed again, because their replies are judged by the time.',
    explains(difference, both) {
      const found = changed(difference, 'indexedAt', 'sortAt', 'sortedAt')
      return both.happened.lastOf(found?.key)?.rewritten === true && found?.official.cid === found?.ours.cid
    },
  },
  {
    id: 'a profile without a date',
    tables: ['profile'],
    theirs: '`createdAt` is the moment at which the record was indexed: another at each run.',
    ours: '`createdAt` is the time of the commit: the same at each run.',
    explains(difference, both) {
      const found = changed(difference, 'createdAt')
      if (found?.table !== 'profile') return false
      return both.content(found.key).createdAt === undefined && found.ours.createdAt === found.ours.indexedAt
    },
  },
  {
    id: 'reposts and quotes of an edited or deleted post',
    tables: ['feed_item', 'quote'],
    theirs:
      'Deleting or editing a post removes the feed items of its reposts and the quote rows of its quotes, though the reposts and the quotes are still there.',
    ours: 'These rows belong to the repost and to the quote, and go with them. Otherwise it depends on the order of arrival whether they exist.',
    explains(difference, both) {
      if (difference.kind !== 'only ours') return false
      const { table, key, ours } = difference
      const subject = table === 'quote' ? ours.subject : ours.type === 'repost' ? ours.postUri : undefined
      return subject !== undefined && both.lives(key) && (both.wasEdited(subject) || both.wasRemoved(subject))
    },
  },
  {
    id: 'quotes are counted by post',
    tables: ['post_agg'],
    theirs:
      '`quoteCount` counts the quotes of one version (CID) of the post: the one that the last quote named. It stays as it is when the quotes go with an edit or a deletion of the post.',
    ours: '`quoteCount` is the number of rows in `quote` with this subject, whichever version they name.',
    explains(difference, both) {
      if (countersOf(difference).join() !== 'quoteCount' || !areRight(difference, both.ours, ['quoteCount']))
        return false
      return both.wasEdited(difference.key) || both.wasRemoved(difference.key)
    },
  },
  {
    id: 'a count of zero',
    tables: ['post_agg', 'profile_agg'],
    theirs:
      'After the last like, reply, follow, … is gone, a row of zeros stays. An account of which nothing was ever counted has no row. Then readers (`getCountsForUsers`) do not count its lists, feed generators and starter packs either.',
    ours: 'There is a row of zeros, or none: readers take none for zeros. Whoever has had a list, a feed generator or a starter pack has a row in `profile_agg`, so these are counted, whatever came in which batch.',
    explains(difference) {
      const row = difference.table.endsWith('_agg') ? lone(difference) : undefined
      return row !== undefined && Object.values(row).every((value) => typeof value !== 'number' || value === 0)
    },
  },
  {
    id: 'a count of other rows',
    tables: ['post_agg', 'profile_agg'],
    theirs: 'Counters are recounted from the rows.',
    ours: 'Counters equal the rows too. Where the rows differ for another reason on this page, so do their counts.',
    explains(difference, both) {
      const columns = countersOf(difference)
      return columns.length > 0 && [both.ours, both.official].every((side) => areRight(difference, side, columns))
    },
  },
  {
    id: "an edited reply's place in its author's thread",
    tables: ['op_thread_reply'],
    theirs: '`parentUri` is always the parent that the first version named.',
    ours: 'It is the parent that the newest version names, also of a deleted reply.',
    explains(difference, both) {
      const found = changed(difference, 'parentUri')
      if (found?.table !== 'op_thread_reply') return false
      const { uri, parentUri } = found.ours
      return (both.wasEdited(uri) || both.wasRemoved(uri)) && both.happened.lastOf(uri)?.parent === parentUri
    },
  },
  {
    id: "a deleted reply's place in its author's thread",
    tables: ['op_thread_reply'],
    theirs: '`deletedAt` is the clock of the indexer, and a reply that is edited or written anew stays deleted.',
    ours: '`deletedAt` is the time of the commit that deleted the reply, and null while the reply is there.',
    explains(difference, both) {
      const found = changed(difference, 'deletedAt')
      if (found?.table !== 'op_thread_reply' || !found.official.deletedAt) return false
      return both.lives(found.ours.uri) === (found.ours.deletedAt === null)
    },
  },
]

/** Whether the reply, or a reply above it, answers a record of another collection. */
function hangsOnNoPost(side: Tables, uri: string): boolean {
  let at: string | null | undefined = uri
  for (let height = 0; typeof at === 'string' && height < 20; height++) {
    if (collectionOfUri(at) !== 'app.bsky.feed.post') return true
    at = side.at('post', at)[0]?.replyParent as string | null | undefined
  }
  return false
}

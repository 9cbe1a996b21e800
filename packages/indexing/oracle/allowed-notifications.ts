/** Allowed differences in notifications. */
import { changed, holderRow, type Allowance, type Both } from './allowance.ts'
import type { Difference } from './compare.ts'
import type { Row, Tables } from './tables.ts'

export const notificationAllowances: readonly Allowance[] = [
  {
    id: 'the notification of an edited record',
    tables: ['notification'],
    theirs:
      'The notification of an edited like, repost, follow or profile stays as the first version made it, also if the thread was muted meanwhile. One that only the edit gives reason for is not made. That of a profile stays even when the profile is deleted.',
    ours: 'A record has the notifications of its current version, with its CID and date. They go with the record.',
    explains(difference, both) {
      if (difference.table !== 'notification') return false
      const row = difference.kind === 'only official' ? difference.official : difference.ours
      const uri = row.recordUri
      if (!EDITABLE.test(String(uri)) || !(both.wasEdited(uri) || both.wasRemoved(uri))) return false
      if (difference.kind === 'only official') return isOutdated(difference.official, difference.key, both)
      if (difference.kind === 'column' && !['recordCid', 'sortAt'].includes(difference.column)) return false
      return row.recordCid === both.ours.at('record', String(uri))[0]?.cid
    },
  },
  {
    id: 'when somebody joined',
    tables: ['notification'],
    theirs: '`starterpack-joined` is sorted by the time at which the profile was indexed.',
    ours: 'It is sorted by the date of the profile, as all others by the date of their record.',
    explains(difference) {
      const found = changed(difference, 'sortAt')
      return found?.table === 'notification' && found.ours.reason === 'starterpack-joined'
    },
  },
  {
    id: 'when a verification ended',
    tables: ['notification'],
    theirs: '`unverified` is sorted by the clock of the indexer.',
    ours: 'It is sorted by the time of the commit that deleted the verification.',
    explains(difference, both) {
      const found = changed(difference, 'sortAt')
      return found?.ours.reason === 'unverified' && both.wasRemoved(found.ours.recordUri)
    },
  },
  {
    id: 'a second verification that ended',
    tables: ['notification'],
    theirs:
      'When one account verifies another twice, the other is told of the first verification, and of the end of those that had the row when they were deleted.',
    ours: 'Of every deleted verification, its subject is told that it was made and that it ended. Which one had the row at which moment depends on the order of arrival.',
    explains(difference, both) {
      if (difference.table !== 'notification' || difference.kind !== 'only ours') return false
      const { reason, did, author, recordUri } = difference.ours
      if (!(reason === 'verified' || reason === 'unverified') || !both.wasRemoved(recordUri)) return false
      const others = both.official.all('notification').filter((row) => row.did === did && row.author === author)
      return others.some((row) => row.reason === 'verified' && row.recordUri !== recordUri)
    },
  },
  {
    id: 'an edited verification',
    tables: ['notification'],
    theirs:
      'When a verification is edited, its former subject is told that it ended, even if the subject is still the same. The new subject is told nothing. The notification of the first version stays.',
    ours: 'It has the notifications of its current version, like any edited record. An export does not contain earlier versions, so nothing may depend on them.',
    explains: (difference, both) => isOfEditedVerification(difference, both),
  },
  {
    id: 'told of a reply that came first',
    tables: ['notification'],
    theirs: 'When a post is indexed after replies to it, its author is not told of them. The authors further up are.',
    ours: 'All are told, as if the order had been right.',
    explains(difference, both) {
      if (difference.table !== 'notification' || difference.kind !== 'only ours') return false
      const { reason, recordUri } = difference.ours
      return reason === 'reply' && both.happened.cameBeforeItsThread(String(recordUri))
    },
  },
  {
    id: 'a muted thread whose post is gone',
    tables: ['notification'],
    theirs: 'Somebody who has muted a thread is still told of what is done to their deleted posts in it.',
    ours: 'A deleted post still counts as part of its thread, so its author is not told.',
    explains(difference, both) {
      if (difference.table !== 'notification' || difference.kind !== 'only official') return false
      const { did, reasonSubject } = difference.official
      if (!both.gone(reasonSubject) || !both.wasRemoved(reasonSubject)) return false
      return both.happened.muted.has(`${String(did)} ${both.happened.rootOf(String(reasonSubject))}`)
    },
  },
  {
    id: 'told once',
    tables: ['notification'],
    theirs:
      'When a post is edited or written anew, some authors above it are told of the replies below it: those whom the post itself does not tell, because a reply between them is hidden. Some of them are told a second time.',
    ours: 'Each is told once. Nobody above a hidden reply is told of what is below it.',
    explains(difference, { official, ours, happened }) {
      const { kind, key } = difference
      if (difference.table !== 'notification' || kind !== 'only official' || difference.official.reason !== 'reply')
        return false
      if (ours.at('notification', key).length === 1 && official.at('notification', key).length > 1) return true
      const { reasonSubject, recordUri } = difference.official
      return happened.cameAboveByAnEdit(String(reasonSubject), String(recordUri))
    },
  },
  {
    id: 'the notification of a promoted duplicate',
    tables: ['notification'],
    theirs:
      'When a duplicate takes over, the notification of the deleted record stays (readers leave it out, since its record is gone). The record that took over has none.',
    ours: 'The deleted record has no notification. The one that took over has its own.',
    explains(difference, both) {
      if (difference.table !== 'notification') return false
      if (difference.kind === 'only official') {
        const uri = difference.official.recordUri
        return both.gone(uri) && both.wasRemoved(uri) && both.happened.hadTwin(String(uri))
      }
      return (
        difference.kind === 'only ours' &&
        both.official.at('duplicate_record', String(difference.ours.recordUri)).length > 0
      )
    },
  },
  {
    id: 'the notification of another duplicate',
    tables: ['notification'],
    theirs: 'The record that has the row makes the notification.',
    ours: 'The same. Where another record has the row, for one of the reasons above, it is that one.',
    explains(difference, { official, ours }) {
      if (difference.table !== 'notification' || difference.kind === 'column') return false
      const [side, other, row]: [Tables, Tables, Row] =
        difference.kind === 'only ours' ? [ours, official, difference.ours] : [official, ours, difference.official]
      return holderRow(side, row.recordUri) !== undefined && holderRow(other, row.recordUri) === undefined
    },
  },
]

const EDITABLE = /\/app\.bsky\.(?:feed\.(?:like|repost)|graph\.follow|actor\.profile)\//

/** Whether the current version of the record gives no reason for the notification, or the notification exists twice. */
function isOutdated(row: Row, key: string, both: Both): boolean {
  if (row.reason === 'starterpack-joined' && both.official.at('notification', key).length > 1) return true
  const { subject, via, joinedViaStarterPack } = both.content(row.recordUri)
  if (!both.lives(row.recordUri)) return row.reason === 'starterpack-joined'
  const about = [subject, via, joinedViaStarterPack].map((ref) => (ref as { uri?: string } | undefined)?.uri ?? ref)
  if (!about.includes(row.reasonSubject ?? row.did)) return true
  // Or the record was written again after the thread was muted.
  const [post] = both.ours.at('post', String(row.reasonSubject))
  return both.happened.muted.has(`${String(row.did)} ${String(post?.replyRoot ?? row.reasonSubject)}`)
}

/**
 * Whether the difference is about an edited verification. Ours has the notifications of its last version: that it was
 * made, and, when it is gone, that it ended.
 */
function isOfEditedVerification(difference: Difference, both: Both): boolean {
  const row = difference.kind === 'only official' ? difference.official : difference.ours
  const { reason, did, recordUri, recordCid } = row
  const last = both.happened.lastOf(recordUri)
  if (!(reason === 'verified' || reason === 'unverified') || !both.wasEdited(recordUri) || !last) return false
  const isStanding = did === last.subject && (reason === 'verified' || both.gone(recordUri))
  switch (difference.kind) {
    case 'only ours':
      return isStanding && recordCid === last.cid
    case 'column':
      return isStanding && recordCid === last.cid && ['recordCid', 'sortAt'].includes(difference.column)
    case 'only official':
      return !isStanding || both.ours.at('notification', difference.key).length === 1
  }
}

/**
 * When things were written, as far as one can tell: what decides which gate a reply met.
 *
 * A live commit's rev tells. An export gives every record the rev of its head, which may be years later: then what the record itself claims counts (its key
 * when that is a TID, else its `createdAt`), but never more than the rev. All times are TIDs and compare as strings.
 */
import { rkeyOfUri } from '@sluice/events/stream-event.ts'
import { isTid, tidFromMicros } from '@sluice/events/tid.ts'
import { CLAIMED_FROM, KNOWN_FROM, type Entry, type Fact } from '../define.ts'

/** What decides when a record was written. */
export interface Dated {
  rev: string
  /** It came with its own commit. */
  live: boolean
}

/**
 * What is remembered of a follow or a list item, and from when on. Each version ends what the record said before, which may have been of other accounts. Of one with its own commit it is known when that was; of one
 * that an export brought, that it was no later than the export's head, and from when on it says to have been: from the time of the record's first version, as a rule. Of what another indexer wrote nothing is known but that. (Older
 * builds remembered `true`, and of an export's the beginning that it claims: these end nothing, and are not ended by another version.)
 */
export function relationFact({ uri, rev, live, createdAt }: Entry): Omit<Fact, 'key'> {
  const since = writtenAt({ rev, live }, claimOfKey(uri, createdAt))
  if (rev === '') return { since, fact: true }
  return { since: rev, fact: live ? KNOWN_FROM : { [CLAIMED_FROM]: since } }
}

/** The time of a record version. @param claimed a TID: what the record says itself */
export function writtenAt({ rev, live }: Dated, claimed: string | undefined): string {
  return live || claimed === undefined || (rev !== '' && claimed > rev) ? rev : claimed
}

/** The claim of a record whose key is made when it is made (posts, follows, list items). */
export function claimOfKey(uri: string, createdAt: string): string | undefined {
  const key = rkeyOfUri(uri)
  return isTid(key) ? key : claimOfDate(createdAt)
}

/**
 * The claim of a record whose key says nothing (a gate has its post's). The date is what anybody likes to write: of what no TID can say (before 1970,
 * after 2255) it claims nothing.
 */
export function claimOfDate(createdAt: string): string | undefined {
  const micros = Date.parse(createdAt) * 1000
  return micros > 0 && Number.isSafeInteger(micros) ? tidFromMicros(micros) : undefined
}

/** For statements: when a post was written, by its commit's rev; of one that came with an export its key. A key that is no TID passes every comparison. */
export const timeOf = (uri: string): string => `(
        select case
          when record.rev is not null and record."fromExport" is not true then record.rev
          when split_part(uri, '/', 5) ~ '^[2-7a-j][2-7a-z]{12}$' then split_part(uri, '/', 5) else '~' end
        from record where record.uri = ${uri}
      )`

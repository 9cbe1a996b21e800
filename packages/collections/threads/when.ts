/**
 * When a record was written, as far as that can be known. The time decides, for example, which version of a thread gate
 * a reply is judged by.
 *
 * - A record from a live commit was written at the rev of that commit.
 * - An export gives every record the rev of its head, which may be years later. Then the record's own claim counts: its
 *   record key if that is a TID, else its `createdAt`. A claim later than the rev counts as the rev.
 *
 * All times are TIDs and compare as strings.
 */
import { rkeyOfUri } from '@sluice/events/stream-event.ts'
import { isTid, tidFromMicros } from '@sluice/events/tid.ts'
import { CLAIMED_FROM, KNOWN_FROM, type Fact } from '../depends.ts'
import type { Entry } from '../record.ts'

/** What decides when a record was written. */
export interface Dated {
  rev: string
  /** The record came with its own commit, not with an export. */
  live: boolean
}

/**
 * The fact that is remembered of a version of a follow or a list item, and its beginning. Each version ends what the
 * record stated before, which may have been about another account.
 *
 * - A version from its own commit began at that commit's rev (`KNOWN_FROM`).
 * - A version from an export began no later than the export's head. It also claims a beginning, which usually is the
 *   time of the record's first version (`CLAIMED_FROM`).
 * - Of a row that another indexer wrote only the claimed beginning is known.
 *
 * Databases may still have facts that older builds wrote: `true`, for a version from an export with the claimed
 * beginning. Such a fact ends no other, and another version does not end it.
 */
export function relationFact({ uri, cid, rev, live, createdAt }: Entry): Omit<Fact, 'key'> {
  const since = writtenAt({ rev, live }, claimOfKey(uri, createdAt))
  if (rev === '') return { since, fact: true }
  return { since: rev, fact: live ? KNOWN_FROM : { [CLAIMED_FROM]: since, version: cid } }
}

/** The time of a record version (TID). @param claimed the time that the record itself claims (TID) */
export function writtenAt({ rev, live }: Dated, claimed: string | undefined): string {
  return live || claimed === undefined || (rev !== '' && claimed > rev) ? rev : claimed
}

/** The time claimed by a record whose key is made when the record is made (posts, follows, list items). */
export function claimOfKey(uri: string, createdAt: string): string | undefined {
  const key = rkeyOfUri(uri)
  return isTid(key) ? key : claimOfDate(createdAt)
}

/**
 * The time claimed by a record whose key tells no time of its own (a gate has the key of its post). Authors may write
 * any date. A date that no TID can express (before 1970, after 2255) is no claim: undefined.
 */
export function claimOfDate(createdAt: string): string | undefined {
  const micros = Date.parse(createdAt) * 1000
  return micros > 0 && Number.isSafeInteger(micros) ? tidFromMicros(micros) : undefined
}

/**
 * SQL expression: when a post was written. That is the rev of its own commit, or for a post from an export its record
 * key. A key that is no TID gives '~', which is later than every TID.
 */
export const timeOf = (uri: string): string => `(
        select case
          when record.rev is not null and record."fromExport" is not true then record.rev
          when split_part(uri, '/', 5) ~ '^[2-7a-j][2-7a-z]{12}$' then split_part(uri, '/', 5) else '~' end
        from record where record.uri = ${uri}
      )`

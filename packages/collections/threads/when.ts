/**
 * When things were written, as far as one can tell: what decides which gate a reply met.
 *
 * A live commit's rev tells. An export gives every record the rev of its head, which may be years later: then what the record itself claims counts (its key
 * when that is a TID, else its `createdAt`), but never more than the rev. All times are TIDs and compare as strings.
 */
import { TID } from '@atproto/common-web'

/** What decides when a record was written. */
export interface Dated {
  rev: string
  /** It came with its own commit. */
  live: boolean
}

/** The time of a record version. @param claimed a TID: what the record says itself */
export function writtenAt({ rev, live }: Dated, claimed: string | undefined): string {
  return live || claimed === undefined || (rev !== '' && claimed > rev) ? rev : claimed
}

/** The claim of a record whose key is made when it is made (posts, follows, list items). */
export function claimOfKey(uri: string, createdAt: string): string | undefined {
  const key = uri.slice(uri.lastIndexOf('/') + 1)
  return isTid(key) ? key : claimOfDate(createdAt)
}

/** The claim of a record whose key says nothing (a gate has its post's). */
export function claimOfDate(createdAt: string): string | undefined {
  const millis = Date.parse(createdAt)
  return millis > 0 ? TID.fromTime(millis * 1000, 0).toString() : undefined
}

const TID_FORM = /^[2-7a-j][2-7a-z]{12}$/

function isTid(text: string): boolean {
  return TID_FORM.test(text)
}

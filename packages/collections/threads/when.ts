/**
 * When things were written, as far as one can tell: what decides which gate a reply met.
 *
 * A live commit's rev tells. An export gives every record the rev of its head, which may be years later: then what the record itself claims counts (its key
 * when that is a TID, else its `createdAt`), but never more than the rev. All times are TIDs and compare as strings.
 */
import { KNOWN_FROM } from '../define.ts'

/** What decides when a record was written. */
export interface Dated {
  rev: string
  /** It came with its own commit. */
  live: boolean
}

/**
 * What is remembered of a follow or a list item: whether it is known when it began. One that is known to begin ends what the record said before, which may have been of other accounts; one that an
 * export brought claims a beginning, that of the record as a rule. (Of either kind are those that older builds remembered as `true`.)
 */
export const relationFact = (live: boolean): unknown => (live ? KNOWN_FROM : true)

/** The time of a record version. @param claimed a TID: what the record says itself */
export function writtenAt({ rev, live }: Dated, claimed: string | undefined): string {
  return live || claimed === undefined || (rev !== '' && claimed > rev) ? rev : claimed
}

/** The claim of a record whose key is made when it is made (posts, follows, list items). */
export function claimOfKey(uri: string, createdAt: string): string | undefined {
  const key = uri.slice(uri.lastIndexOf('/') + 1)
  return isTid(key) ? key : claimOfDate(createdAt)
}

/**
 * The claim of a record whose key says nothing (a gate has its post's). The date is what anybody likes to write: of what no TID can say (before 1970,
 * after 2255) it claims nothing.
 */
export function claimOfDate(createdAt: string): string | undefined {
  const micros = Date.parse(createdAt) * 1000
  return micros > 0 && Number.isSafeInteger(micros) ? tidOfMicros(micros) : undefined
}

const DIGITS = '234567abcdefghijklmnopqrstuvwxyz'
const TIME_DIGITS = 11

/** With clock 0. (`TID.fromTime` of @atproto/common-web throws for times before September 2005: it does not pad.) */
function tidOfMicros(micros: number): string {
  let time = ''
  for (let left = micros; time.length < TIME_DIGITS; left = Math.floor(left / 32)) time = DIGITS[left % 32]! + time
  return `${time}22`
}

const TID_FORM = /^[2-7a-j][2-7a-z]{12}$/

function isTid(text: string): boolean {
  return TID_FORM.test(text)
}

/** For statements: when a post was written, by its commit's rev; of one that came with an export its key. A key that is no TID passes every comparison. */
export const timeOf = (uri: string): string => `(
        select case
          when record.rev is not null and record."fromExport" is not true then record.rev
          when split_part(uri, '/', 5) ~ '^[2-7a-j][2-7a-z]{12}$' then split_part(uri, '/', 5) else '~' end
        from record where record.uri = ${uri}
      )`

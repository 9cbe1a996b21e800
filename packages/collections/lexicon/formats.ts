/**
 * The string formats of lexicons, as the official indexer checks them in its strict mode.
 *
 * Values of some formats nearly always have one shape. For these formats a regular expression that accepts only that
 * shape comes first, and the official function decides about every other value. So a fast path can be wrong in one way
 * only, by accepting too much. Nanoseconds a call, regular expression against official function: at-uri 123 / 736, cid
 * 115 / 3478, datetime 35 / 259, language 18 / 430. Loops over character codes took 129, 104 and 42. The official
 * functions of the other formats are single regular expressions already (40–70 ns).
 */
import { validateCidString } from '@atproto/lex-data'
import {
  isAtIdentifierString,
  isAtUriString,
  isDatetimeString,
  isValidDid,
  isValidHandle,
  isValidNsid,
  isValidRecordKey,
  isValidTid,
  isValidUri,
  parseLanguageString,
} from '@atproto/syntax'

export type StringFormat =
  | 'at-identifier'
  | 'at-uri'
  | 'cid'
  | 'datetime'
  | 'did'
  | 'handle'
  | 'language'
  | 'nsid'
  | 'record-key'
  | 'tid'
  | 'uri'

/** https://atproto.com/specs/lexicon#string-formats */
export const FORMATS: Readonly<Record<StringFormat, (text: string) => boolean>> = {
  'at-identifier': isAtIdentifierString,
  'at-uri': isAtUri,
  cid: isCid,
  datetime: isDatetime,
  did: isValidDid,
  handle: isValidHandle,
  language: isLanguage,
  nsid: isValidNsid,
  'record-key': isValidRecordKey,
  tid: isValidTid,
  uri: isValidUri,
}

/**
 * The URI of a Bluesky record of a `did:plc` account. Its record key cannot be `.` or `..`, since the first character
 * must be a letter or a digit.
 */
const BSKY_RECORD = /^at:\/\/did:plc:[a-z2-7]{24}\/app\.bsky\.[a-z]{1,63}\.[a-zA-Z]{1,63}\/[a-z0-9][a-zA-Z0-9_-]{0,63}$/

/** Strict: no trailing slash, no query, a valid record key. A fragment may follow. */
export function isAtUri(text: string): boolean {
  return BSKY_RECORD.test(text) || isAtUriString(text)
}

/**
 * A CID of version 1, dag-cbor or raw, SHA-256, in base32. Its 36 bytes take 58 characters, and the last two bits of
 * the last character must be zero. The prefix `01 71 12 20` or `01 55 12 20` ends within the seventh character.
 */
const SHA256_CID = /^baf[yk]rei[a-h][a-z2-7]{50}[aeimquy4]$/
const RAW_SHA256_CID = /^bafkrei[a-h][a-z2-7]{50}[aeimquy4]$/

/** Whether the text is a CID of any kind, in the base that CIDs of its version use. */
export function isCid(text: string): boolean {
  return SHA256_CID.test(text) || validateCidString(text)
}

/**
 * Whether the text is a CID as current records and blobs have it. False does not mean invalid, only that another check
 * must decide.
 */
export function isSha256Cid(text: string): boolean {
  return SHA256_CID.test(text)
}

/** Whether the text is a CID as current blobs have it. False does not mean invalid. */
export function isRawSha256Cid(text: string): boolean {
  return RAW_SHA256_CID.test(text)
}

/** A datetime in UTC. The official rule accepts days up to 31 in any month, as `Date` does. */
const UTC = /^\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?Z$/

/** RFC 3339 with an upper-case `T` and a zone. Years 0 to 9999 in UTC. No leap second, no `-00:00`. */
export function isDatetime(text: string): boolean {
  return UTC.test(text) || isDatetimeString(text)
}

const LANGUAGE_AND_REGION = /^[a-z]{2,3}(?:-[A-Z]{2})?$/

/** BCP 47, well formed, with a language of two or three lower-case letters, and no variant or singleton twice. */
export function isLanguage(text: string): boolean {
  return LANGUAGE_AND_REGION.test(text) || parseLanguageString(text) !== null
}

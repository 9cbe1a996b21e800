/**
 * What is known of each repository's chain of commits, kept in Redis. The ingester moves a chain record in the same
 * step as the entries that it appends; the backfiller moves it with the last chunk of an export. This file is the only
 * definition of the keys, fields and bytes of these records.
 *
 * A record says at which commit the live stream stands, and whether the index was ever given the whole repository:
 *
 * | exported | resync | meaning                                                                                         |
 * |----------|--------|-------------------------------------------------------------------------------------------------|
 * | yes      | no     | complete: everything up to `rev` was sent on                                                    |
 * | no       | yes    | never exported: live events are sent on as they come, the past is asked for                     |
 * | yes      | yes    | something is missing before `rev`: an export at `resync.need` or later mends it                 |
 * | no       | no     | only the hosting status is known                                                                |
 *
 * So for the backfiller an export is the first one when `exported === false`. An absent record means "unknown": Redis
 * may have been emptied while the index was not. It must be treated as a resync.
 *
 * Layout: hashes in a fixed number of buckets, small enough to stay listpacks (`hash-max-listpack-entries` 512). The
 * field is the 15 bytes of a `did:plc`, or another DID padded to 16 characters or more. The value is, big-endian:
 *
 *     rev 8 · data 16 (start of the digest of the tree's root) · flags 1 [· need 8 · asked 4 (unix seconds)]
 *
 * Measured with 1,000,000 DIDs: 60 bytes for each record, with keys and all (Redis 7.0); a whole digest would add 16.
 * Reading 1,000 records takes 3 ms, and 3 µs of our CPU each.
 *
 * 128 bits of the digest are enough: somebody who finds a second tree with the same 128 bits can deceive us only about
 * their own repository.
 */
import { RESP_TYPES } from 'redis'
import { tidNumber, tidOfNumber } from '@sluice/events/tid.ts'
import { classified, type Redis } from './connection.ts'
import { fnv1a } from './fnv.ts'
import type { Step } from './producer.ts'
import { BINARY, runBinaryScript, scripts } from './scripts.ts'

export interface ChainRecord {
  /** The rev of the newest commit that the live stream has reached; '' when none is known. */
  rev: string
  /** The first 20 characters of that commit's tree root, a CID as latin-1 bytes; '' exactly when `rev` is. */
  data: string
  /** The index was given the whole repository once (an export, or its history from the first commit). */
  exported: boolean
  /** The last account event said that the account is not active. */
  inactive: boolean
  /**
   * Commits are missing: an export of at least `need` is required, asked for at `askedAt` (unix seconds; 0: not yet).
   */
  resync?: { need: string; askedAt: number }
}

/** A record with its bytes. A move names the bytes that it replaces. */
export interface StoredChain {
  record: ChainRecord
  bytes: Buffer
}

export const UNKNOWN_CHAIN: ChainRecord = { rev: '', data: '', exported: false, inactive: false }

/** How many characters of a root's CID (36 latin-1 characters) a record keeps. */
export const DATA_CHARS = 20

const BUCKETS = 2 ** 17
const EXPORTED = 1
const INACTIVE = 2
const RESYNC = 4
const HEAD_BYTES = 25
const FULL_BYTES = HEAD_BYTES + 12
const CID_PREFIX = '\x01\x71\x12\x20'
const PLC = /^did:plc:[a-z2-7]{24}$/
const PLC_BYTES = 15

/** The key and field under which a DID's record is stored. */
export function chainAddress(did: string): { key: string; field: Buffer } {
  const field = PLC.test(did) ? plcBytes(did) : Buffer.from(did.padEnd(16))
  return { key: keyOf(bucketOf(field)), field }
}

/** A record as 25 bytes, or 37 with a resync; layout above. */
export function encodeChain({ rev, data, exported, inactive, resync }: ChainRecord): Buffer {
  const bytes = Buffer.alloc(resync ? FULL_BYTES : HEAD_BYTES)
  bytes.writeBigUInt64BE(revNumber(rev), 0)
  if (rev !== '') bytes.write(data.slice(CID_PREFIX.length, DATA_CHARS), 8, 'latin1')
  bytes[24] = (exported ? EXPORTED : 0) | (inactive ? INACTIVE : 0) | (resync ? RESYNC : 0)
  if (resync) {
    bytes.writeBigUInt64BE(revNumber(resync.need), HEAD_BYTES)
    bytes.writeUInt32BE(resync.askedAt, HEAD_BYTES + 8)
  }
  return bytes
}

/** The record in 25 bytes, or 37 with a resync; layout above. */
export function decodeChain(bytes: Buffer): ChainRecord {
  const rev = revText(bytes.readBigUInt64BE(0))
  const flags = bytes[24]!
  return {
    rev,
    data: rev === '' ? '' : CID_PREFIX + bytes.toString('latin1', 8, 24),
    exported: (flags & EXPORTED) !== 0,
    inactive: (flags & INACTIVE) !== 0,
    ...((flags & RESYNC) !== 0 && {
      resync: { need: revText(bytes.readBigUInt64BE(HEAD_BYTES)), askedAt: bytes.readUInt32BE(HEAD_BYTES + 8) },
    }),
  }
}

/**
 * The records of `dids`, in their order; undefined for a DID without a record. One round trip.
 * @throws TransientError
 */
export async function readChains(redis: Redis, dids: readonly string[]): Promise<(StoredChain | undefined)[]> {
  if (dids.length === 0) return []
  const addresses = dids.map(chainAddress)
  const keys = addresses.map(({ key }) => key)
  const fields = addresses.map(({ field }) => field)
  const reply = (await classified(runBinaryScript(redis, scripts.readHashes, keys, fields))) as (Buffer | null)[]
  return reply.map((bytes) => (bytes ? { record: decodeChain(bytes), bytes } : undefined))
}

/**
 * The accounts whose newest commit has a rev of at least `rev`, in parts of any size, also empty ones. Every record is
 * read. One that is new or moves meanwhile may be left out, and any may come twice.
 * @throws TransientError
 */
export async function* accountsSince(redis: Redis, rev: string): AsyncGenerator<string[]> {
  const binary = redis.withTypeMapping({ ...BINARY, [RESP_TYPES.MAP]: Array })
  let cursor = '0'
  do {
    const page = await classified(redis.scan(cursor, { MATCH: keyOf('*'), COUNT: KEYS_SCANNED }))
    const read = page.keys.map(async (key) => binary.sendCommand<Buffer[]>(['HGETALL', key]))
    const hashes = await classified(Promise.all(read))
    yield hashes.flatMap((pairs) =>
      pairs.flatMap((field, i) => (i % 2 === 0 && decodeChain(pairs[i + 1]!).rev >= rev ? didOf(field) : [])),
    )
    cursor = page.cursor
  } while (cursor !== '0')
}

/** Keys that Redis looks at in one step. Of 42 million accounts as many buckets are 14 MB. */
const KEYS_SCANNED = 1_000

/** A move that leaves a record behind: it never removes one. */
export type ChainMove = Step & { step: 'swap'; to: Buffer }

/**
 * The step that moves a record from what was read (undefined: absent) to `to`. If the record has changed since it was
 * read, the whole append fails with a `StateConflictError`.
 */
export function moveChain(did: string, from: StoredChain | undefined, to: ChainRecord): ChainMove {
  return { step: 'swap', ...chainAddress(did), from: from?.bytes, to: encodeChain(to) }
}

/** The steps that move all `records`, in their order, each from what is `known` of it. */
export function moveChains(
  records: ReadonlyMap<string, ChainRecord>,
  known: ReadonlyMap<string, StoredChain>,
): ChainMove[] {
  return [...records].map(([did, record]) => moveChain(did, known.get(did), record))
}

/**
 * The step that notes a whole export at `rev` with root `data` (a CID as latin-1 bytes). It goes with the last chunk of
 * the export. It never moves the chain back, and keeps the hosting status. It ends the resync when the export is new
 * enough. When it is too old, `Appended.stale` counts it, and the repository must be fetched again.
 */
export function completeExport(did: string, { rev, data }: { rev: string; data: string }): Step {
  const value = encodeChain({ ...UNKNOWN_CHAIN, rev, data }).subarray(0, HEAD_BYTES - 1)
  return { step: 'complete', ...chainAddress(did), value }
}

/**
 * The step that notes that a part of an export goes to the index. It goes with the first chunk: if the export is
 * repeated after that, it is no longer the first one.
 */
export function beginExport(did: string): Step {
  return { step: 'mark', ...chainAddress(did), flags: EXPORTED }
}

/**
 * The step that notes that the account was found inactive. It goes with the account event that says so. Without it the
 * repository would stay requested, and the reactivation of the account would pass unnoticed, because it causes a
 * request only for an account that is marked inactive.
 */
export function markInactive(did: string): Step {
  return { step: 'mark', ...chainAddress(did), flags: INACTIVE }
}

/**
 * The step that forgets an account about which nothing is known but that it was listed and requested; undefined for any
 * other account. It fails as `moveChain` does. Nothing is lost: an account without a record is requested when it is
 * listed again, or when a commit arrives that is not its very first. Its very first commit begins the chain.
 */
export function forgetListed(did: string, { record, bytes }: StoredChain): Step | undefined {
  const { rev, exported, inactive, resync } = record
  if (rev !== '' || exported || inactive || resync === undefined || resync.need !== '') return undefined
  return { step: 'swap', ...chainAddress(did), from: bytes, to: undefined }
}

const keyOf = (bucket: number | '*'): string => `sluice:chain:${bucket}`

function bucketOf(field: Buffer): number {
  // A did:plc is a hash already. The text of other DIDs is hashed (FNV-1a).
  if (field.length === PLC_BYTES) return field.readUIntBE(0, 3) % BUCKETS
  return fnv1a(field) % BUCKETS
}

function plcBytes(did: string): Buffer {
  const bytes = Buffer.allocUnsafe(PLC_BYTES)
  for (let group = 0; group < 3; group++) {
    let high = 0
    let low = 0
    for (let i = 0; i < 4; i++) {
      high = high * 32 + base32Digit(did.charCodeAt(8 + group * 8 + i))
      low = low * 32 + base32Digit(did.charCodeAt(12 + group * 8 + i))
    }
    bytes.writeUIntBE(high * 2 ** 20 + low, group * 5, 5)
  }
  return bytes
}

/** The DID that is stored under a field. */
function didOf(field: Buffer): string {
  if (field.length !== PLC_BYTES) return field.toString().trimEnd()
  let did = 'did:plc:'
  for (let group = 0; group < 3; group++) {
    const bits = field.readUIntBE(group * 5, 5)
    for (let digit = 7; digit >= 0; digit--) did += DIGITS[Math.floor(bits / 32 ** digit) % 32]!
  }
  return did
}

const DIGITS = 'abcdefghijklmnopqrstuvwxyz234567'

/** The value of a base32 digit (RFC 4648: letters before digits). */
function base32Digit(code: number): number {
  return code >= 97 ? code - 97 : code - 24
}

/** The rev as a number, in the same order as revs, so that scripts can compare them; 0 means none. */
function revNumber(rev: string): bigint {
  return rev === '' ? 0n : tidNumber(rev)
}

function revText(number: bigint): string {
  return number === 0n ? '' : tidOfNumber(number)
}

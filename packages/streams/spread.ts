/**
 * Where an account belongs: its lane within a consumer, and its shard among whole pipelines. The two use different
 * functions. With one function for both, all accounts of shard 0 of 2 would be in lane 0 of 2.
 *
 * `laneOf` concerns one process only, so it may change. `shardOf` must never change: every Redis that was filled with
 * it depends on it. Another function would move accounts to other shards and leave their chain state behind. It is
 * CRC-32, so that a person can compute it too: `python3 -c 'import sys, zlib; print(zlib.crc32(sys.argv[1].encode()) %
 * 2)' did:plc:…`. The shard is a remainder of it, so a shard can be split in two: the accounts of `i/n` are those of
 * `i/2n` and `(i+n)/2n`.
 */
import { crc32 } from 'node:zlib'
import { fnv1a } from './fnv.ts'

/** A part of the network: the accounts with `shardOf(did, of) === index`. */
export interface Shard {
  readonly index: number
  readonly of: number
}

/** The whole network: one shard of one. */
export const WHOLE: Shard = { index: 0, of: 1 }

/** The most shards. Nobody runs more; a larger number is probably a typo. */
const SHARDS_MAX = 1_024

/**
 * Which of `lanes` a key is in; depends on nothing else.
 *
 * Each lane has a range of accounts that are neighbours by DID. So the batches of two lanes touch few pages in common
 * of the indexes that begin with an account or a URI, and each batch finds more of its rows on a page (138 µs of CPU an
 * event in all, instead of 162). A `did:plc` is a hash itself, and its first characters are spread evenly (did:plc
 * specification, identifier syntax). Other keys are hashed here (FNV-1a).
 */
export function laneOf(key: string, lanes: number): number {
  if (lanes === 1) return 0
  const place = placeOfPlc(key)
  return place === undefined ? fnv1a(key) % lanes : Math.floor(place * lanes)
}

const PLC = 'did:plc:'
/** These characters have 20 bits: many more values than there are lanes. */
const PLACE_CHARS = 4

/**
 * The place of a did:plc, from 0 up to but not including 1, in byte order: here the digits of base32 sort before its
 * letters. undefined for other keys.
 */
function placeOfPlc(key: string): number | undefined {
  if (!key.startsWith(PLC) || key.length < PLC.length + PLACE_CHARS) return undefined
  let place = 0
  for (let i = 0; i < PLACE_CHARS; i++) {
    const code = key.charCodeAt(PLC.length + i)
    const digit = code >= 0x61 && code <= 0x7a ? code - 0x61 + 6 : code - 0x32
    if (digit < 0 || digit >= 32) return undefined
    place = place * 32 + digit
  }
  return place / 32 ** PLACE_CHARS
}

/** Which of `shards` an account is in (CRC-32 of its DID in UTF-8); 0.1 µs. */
export function shardOf(did: string, shards: number): number {
  return shards === 1 ? 0 : crc32(did) % shards
}

export function isInShard(did: string, { index, of }: Shard): boolean {
  return shardOf(did, of) === index
}

/**
 * `2/4` → the third shard of four.
 * @returns undefined when the text names no shard
 */
export function parseShard(text: string): Shard | undefined {
  const [, index, of] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? []
  const shard = { index: Number(index), of: Number(of) }
  return shard.of >= 1 && shard.of <= SHARDS_MAX && shard.index < shard.of ? shard : undefined
}

/** The text that `parseShard` reads. */
export function formatShard({ index, of }: Shard): string {
  return `${index}/${of}`
}

/** The option that all daemons of a shard share. */
export const shardOption = {
  env: 'INGESTER_SHARD',
  type: 'string',
  default: undefined,
  example: '0/2',
  check: (text: string) =>
    parseShard(text) === undefined ? 'is no shard like 0/2: the first of two, counted from 0' : undefined,
} as const

/** The shard that `INGESTER_SHARD` names, once it was checked; the whole network when it is not set. */
export function shardOfSetting(text: string | undefined): Shard {
  return (text === undefined ? undefined : parseShard(text)) ?? WHOLE
}

/**
 * Where an account belongs: its lane within a consumer, and its shard among whole pipelines. Each has a function of its own: with one for both, all accounts of shard 0 of 2
 * would meet in lane 0 of 2.
 *
 * `laneOf` concerns one process and may change. `shardOf` is a contract with every Redis that was ever filled by it: another function would move accounts
 * between shards, and leave their chain state behind. It is CRC-32, so that a person can ask too:
 * `python3 -c 'import sys, zlib; print(zlib.crc32(sys.argv[1].encode()) % 2)' did:plc:…`. It is a remainder, so a shard can be split in two: the accounts of `i/n` are those of
 * `i/2n` and `(i+n)/2n`.
 */
import { crc32 } from 'node:zlib'
import { fnv1a } from './fnv.ts'

/** A part of the network: the accounts with `shardOf(did, of) === index`. */
export interface Shard {
  readonly index: number
  readonly of: number
}

/** Everything. */
export const WHOLE: Shard = { index: 0, of: 1 }

/** Nobody runs more; a larger number is probably a typo. */
const SHARDS_MAX = 1_024

/**
 * Which of `lanes` a key is in; depends on nothing else. Each lane has a stretch of accounts that are neighbours by DID. So the batches of two lanes meet on few pages of the
 * indexes that begin with an account or a URI, and each batch finds more of its rows on a page (138 µs of CPU an event in all instead of 162). A `did:plc` is a hash itself, whose
 * first characters are spread evenly (did:plc specification, identifier syntax); other keys are hashed here (FNV-1a).
 */
export function laneOf(key: string, lanes: number): number {
  if (lanes === 1) return 0
  const place = placeOfPlc(key)
  return place === undefined ? fnv1a(key) % lanes : Math.floor(place * lanes)
}

const PLC = 'did:plc:'
/** 20 bits: more than there will be lanes. */
const PLACE_CHARS = 4

/** From 0 up to 1, in byte order: the digits of base32 sort before its letters. */
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

/** `2/4` → the third of four. @returns undefined when it is none */
export function parseShard(text: string): Shard | undefined {
  const [, index, of] = /^(\d{1,4})\/(\d{1,4})$/.exec(text) ?? []
  const shard = { index: Number(index), of: Number(of) }
  return shard.of >= 1 && shard.of <= SHARDS_MAX && shard.index < shard.of ? shard : undefined
}

/** As `parseShard` reads it. */
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

/** What `INGESTER_SHARD` says, once it was checked; without it everything. */
export function shardOfSetting(text: string | undefined): Shard {
  return (text === undefined ? undefined : parseShard(text)) ?? WHOLE
}

/**
 * The key ranges that exports cover: which records in them are gone, in parts that one transaction can remove; and how the records of an account are read in byte order.
 */
import type { Statement } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { isGap } from './cut-facts.ts'
import type { Range } from './prepare.ts'
import type { Version } from './version.ts'

/**
 * Deletions, at each export's rev, of the records inside its range that are not among its keys and not newer; and those that the range removed last, which may not
 * have been settled; and those of which it was not known that they were gone in between, since something newer had come. `fold` decides whether they survive the rest of the batch.
 * @param resyncRevs the watermarks of the accounts, with those of these ranges
 * @param byBytes whether the database sorts text by its bytes: then a range is read from the primary keys. Otherwise all of the account's records are read, and
 * nothing is known of what was removed or is remembered: tombstones and facts have no index by account
 */
export async function findVanished(
  tx: Transaction,
  ranges: readonly Range[],
  resyncRevs: ReadonlyMap<string, string>,
  byBytes: boolean,
): Promise<Version[]> {
  const [held, removed, remembered] = await Promise.all([
    urisNotKept(tx, ranges, byBytes),
    byBytes ? urisRemovedLast(tx, ranges) : undefined,
    byBytes ? urisRemembered(tx, ranges, resyncRevs) : undefined,
  ])
  return ranges.flatMap((range, i) => {
    const uris = new Set([...held[i]!, ...(removed?.[i] ?? []), ...(remembered?.[i] ?? [])])
    return [...uris].map((uri) => vanished(range, uri))
  })
}

/** Of each range the last tombstones at its rev, as many as one transaction leaves: parts go upwards, and each is settled before the next begins. */
async function urisRemovedLast(tx: Transaction, ranges: readonly Range[]): Promise<string[][]> {
  const { rows } = await tx.query<{ n: number; uri: string }>(REMOVED_IN_RANGES, [
    ranges.map(({ did }) => did),
    ranges.map(firstUri),
    ranges.map(endOf),
    ranges.map(({ rev }) => rev),
    REMOVED_MAX,
  ])
  const found: string[][] = ranges.map(() => [])
  for (const { n, uri } of rows) found[n - 1]!.push(uri)
  return found
}

const REMOVED_IN_RANGES = {
  name: 'removed-in-ranges',
  text: `
    select r.n::int as n, gone.uri
    from unnest($1::text[], $2::text[], $3::text[], $4::text[]) with ordinality as r (did, "from", "to", rev, n)
    cross join lateral (
      select uri from tombstone where tombstone.did || '' = r.did and uri >= r."from" and uri < r."to" and tombstone.rev = r.rev
      order by uri desc limit $5
    ) gone`,
}

/**
 * Of each range those of which something is remembered to have been so at its rev, though they are not among its keys: it ended before. Only what was written since the export was taken can
 * have hidden that, so they are few, and of more than a transaction removes no more are looked for. And those that are remembered to have been emptied at this very rev: by these ranges, which may not have been settled. Nothing below
 * the account's watermark: what a newer export has brought may be of later than it says.
 */
async function urisRemembered(
  tx: Transaction,
  ranges: readonly Range[],
  resyncRevs: ReadonlyMap<string, string>,
): Promise<string[][]> {
  const found: string[][] = ranges.map(() => [])
  const last = ranges.flatMap((range, i) => (resyncRevs.get(range.did) === range.rev ? [{ ...range, n: i + 1 }] : []))
  if (last.length === 0) return found
  const { rows } = await tx.query<{ n: number; uri: string }>(REMEMBERED_IN_RANGES, [
    last.map(({ n }) => n),
    last.map(({ did }) => did),
    last.map(firstUri),
    last.map(endOf),
    last.map(({ rev }) => rev),
    REMOVED_MAX,
  ])
  for (const { n, uri } of rows) {
    const range = ranges[n - 1]!
    if (!range.keys.has(uri.slice(baseOf(range).length))) found[n - 1]!.push(uri)
  }
  return found
}

const REMEMBERED_IN_RANGES = {
  name: 'remembered-in-ranges',
  text: `
    select r.n, past.uri
    from unnest($1::int[], $2::text[], $3::text[], $4::text[], $5::text[]) as r (n, did, "from", "to", rev)
    cross join lateral (
      select uri from past_fact where past_fact.did || '' = r.did and uri >= r."from" and uri < r."to" and (since < r.rev and until > r.rev or since = r.rev and ${isGap('past_fact')})
      order by uri limit $6
    ) past`,
}

/**
 * A batch's ranges remove at most so many records in one transaction: about half a second. 400,000 likes of one account at once took 105 s and 1.1 GB; in parts
 * the process stays at 0.3 GB, however many there are.
 */
export const REMOVED_MAX = 2_000

/** So many ranges are asked for at a time: of each there may be `most` records and as many as it has keys. */
const RANGES_AT_ONCE = 32

/**
 * The ranges, in order and without a gap, in parts of which each removes at most `most` records; a long one is cut. There is at least one part. Found
 * without owning the accounts: what comes in meanwhile is not counted.
 */
export async function* inParts(
  db: DatabasePool,
  ranges: readonly Range[],
  byBytes: boolean,
  most: number,
): AsyncGenerator<Range[]> {
  const lookAt = (some: readonly Range[]): Promise<string[][]> =>
    db.session((session) => urisNotKept(session, some, byBytes, most))
  let part: Range[] = []
  let room = most
  for (let at = 0; at < ranges.length; at += RANGES_AT_ONCE) {
    const some = ranges.slice(at, at + RANGES_AT_ONCE)
    const found = await lookAt(some)
    for (const [i, whole] of some.entries()) {
      let range = whole
      let uris = found[i]!
      while (uris.length === most) {
        // By where it ends and not by what is left, since a record at the very rev of the range stays. '!' goes before every character of a record path.
        const to = `${uris.at(-1)!.slice(baseOf(range).length)}!`
        yield [{ ...range, to }]
        range = { ...range, from: to }
        uris = (await lookAt([range]))[0]!
      }
      if (uris.length > room) {
        yield part
        part = []
        room = most
      }
      part.push(range)
      room -= uris.length
    }
  }
  yield part
}

/** Of each range, in byte order: the first `most`, or all. */
async function urisNotKept(
  session: Session,
  ranges: readonly Range[],
  byBytes: boolean,
  most?: number,
): Promise<string[][]> {
  const { rows } = await session.query<{ n: number; uri: string }>(recordsInRanges(byBytes), [
    ranges.map(({ did }) => did),
    ranges.map(firstUri),
    ranges.map(endOf),
    ranges.map(({ rev }) => rev),
    ranges.map(({ keys }) => (most === undefined ? null : most + keys.size)),
  ])
  const found: string[][] = ranges.map(() => [])
  for (const { n, uri } of rows) {
    const range = ranges[n - 1]!
    if (!range.keys.has(uri.slice(baseOf(range).length))) found[n - 1]!.push(uri)
  }
  return most === undefined ? found : found.map((uris) => uris.slice(0, most))
}

function baseOf({ did }: Range): string {
  return `at://${did}/`
}

function firstUri(range: Range): string {
  return baseOf(range) + range.from
}

/** Not in the range any more. '0' follows '/' in byte order: the end of all paths of the repository. */
function endOf(range: Range): string {
  return range.to === '' ? `at://${range.did}0` : baseOf(range) + range.to
}

/**
 * One statement for many ranges: one for each took 0.5 ms for a range of ten keys, and a batch may have hundreds. What is limited by a column of the ranges can only be looked
 * for range by range. In order from the index from some 100,000 records on; of fewer PostgreSQL sorts what is in the range. None below the account's watermark: what is not in that
 * export may be in the newer one, which tells what exists.
 */
export function recordsInRanges(byBytes: boolean): Statement {
  const between = recordsBetween(byBytes, ['r.did', 'r."from"', 'r."to"'])
  return {
    name: 'records-in-ranges',
    text: `
      select r.n::int as n, held.uri
      from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[]) with ordinality as r (did, "from", "to", rev, most, n)
      cross join lateral (
        select uri from record where ${between} and (record.rev is null or record.rev <= r.rev)
        order by ${uriInOrder(byBytes)} limit case when (select "resyncRev" from actor_sync where did = r.did) > r.rev then 0 else r.most end
      ) held`,
  }
}

/**
 * The records of an account from a URI on and before another, in byte order: of $1 from $2 to $3 unless told otherwise, or what else has an account and a URI. An index serves its own collation only, so none is named where all text
 * sorts by its bytes; and the account is hidden from the planner there: an export has hundreds of ranges, and where an index by account is left each would read all of its records.
 */
export function recordsBetween(
  byBytes: boolean,
  [did, from, to] = ['$1', '$2', '$3'],
  { account, uri } = { account: 'record.did', uri: 'uri' },
): string {
  return byBytes
    ? `${account} || '' = ${did} and ${uri} >= ${from} and ${uri} < ${to}`
    : `${account} = ${did} and ${uri} collate "C" >= ${from} collate "C" and ${uri} collate "C" < ${to} collate "C"`
}

/** `uri` in byte order. */
export function uriInOrder(byBytes: boolean): string {
  return byBytes ? 'uri' : 'uri collate "C"'
}

/** All URIs of an account, and the account: '0' follows '/' in byte order. */
export function urisOf(did: string): [from: string, to: string, did: string] {
  return [`at://${did}/`, `at://${did}0`, did]
}

function vanished({ did, rev, time }: Range, uri: string): Version {
  return { uri, did, collection: uri.split('/', 4)[3]!, rev, time, fromExport: true }
}

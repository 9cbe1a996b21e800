/**
 * The key ranges that exports cover. Finds which records in a range are gone, and splits ranges into parts that one
 * transaction can remove. Also says how to read the records of an account in byte order.
 */
import type { Statement } from '@sluice/collections/depends.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { isGap } from './cut-facts.ts'
import type { Range } from './prepare.ts'
import type { Version } from './version.ts'

/**
 * Finds what is gone from each range, as deletions at the export's rev. Three kinds of paths:
 * - records in the range that are not among its keys and not newer than the export;
 * - paths that this range has removed last: that removal may not have been settled;
 * - paths that were gone at the export's rev although a newer version hid that, as `past_fact` tells.
 *
 * `fold` then decides whether a deletion survives the rest of the batch.
 * @param resyncRevs the watermarks of the accounts, including those of these ranges
 * @param byBytes whether the database sorts text by its bytes. If so, a range is read from the primary keys. If not,
 * all records of the account are read, and the second and third kind are not found: tombstones and facts have no index
 * by account
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

/**
 * Finds for each range its last tombstones at its rev, as many as one transaction leaves. That is enough: the parts of
 * a range go upwards, and each part is settled before the next one begins.
 */
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
 * Finds for each range two kinds of paths in `past_fact`:
 * - paths that are not among its keys although a fact was in force at the range's rev: the fact ended before. Only what
 *   was written since the export was taken can have hidden that, so these paths are few. At most as many are looked for
 *   as one transaction removes.
 * - paths with a gap at exactly this rev: this range emptied them, and that may not have been settled.
 *
 * Ranges below the account's watermark are skipped. A newer export may have brought a record that was written later
 * than it claims.
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
 * How many records the ranges of a batch remove in one transaction, at most: about half a second. 400,000 likes of one
 * account in one transaction took 105 s and 1.1 GB. In parts the process stays at 0.3 GB, however many there are.
 */
export const REMOVED_MAX = 2_000

/**
 * How many ranges one statement asks for. For each range it may return `most` records and as many again as the range
 * has keys.
 */
const RANGES_AT_ONCE = 32

/**
 * Splits the ranges into parts, each of which removes at most `most` records; a range that removes more is cut. The
 * pieces of one range come in order and leave no gap. There is at least one part. The accounts are not locked
 * meanwhile: records that come in while this looks are not counted.
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
        // The cut is where the found records end. To ask again which records are left would never end: a record at the
        // range's own rev is found, but not removed. '!' sorts before every character of a record path.
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

/** Finds for each range the records that are not among its keys, in byte order: the first `most`, or all. */
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

/**
 * The URI before which the range ends. A range without an end goes to the end of the repository: '0' follows '/' in
 * byte order.
 */
function endOf(range: Range): string {
  return range.to === '' ? `at://${range.did}0` : baseOf(range) + range.to
}

/**
 * One statement for many ranges: one statement for each took 0.5 ms for a range of ten keys, and a batch may have
 * hundreds. The limit is a column of the ranges, so PostgreSQL cannot do otherwise than look range by range. From some
 * 100,000 records on it reads them in order from the index; of fewer records it sorts those in the range.
 *
 * A range below the account's watermark finds nothing: a record that is missing from this export may be in the newer
 * one, which says what exists.
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
 * A condition for the records of an account from one URI on and before another, in byte order. By default the account
 * is $1, and the URIs are from $2 on and before $3; `account` and `uri` are the columns of `record`, or of another
 * table.
 *
 * An index serves its own collation only. So no collation is named where the database sorts all text by its bytes.
 * There the account is also hidden from the planner (`|| ''`): an export has hundreds of ranges, and a remaining index
 * by account would make each of them read all records of the account.
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

/** For ORDER BY: `uri` in byte order. */
export function uriInOrder(byBytes: boolean): string {
  return byBytes ? 'uri' : 'uri collate "C"'
}

/** The bounds of all URIs of an account, and the account. '0' follows '/' in byte order. */
export function urisOf(did: string): [from: string, to: string, did: string] {
  return [`at://${did}/`, `at://${did}0`, did]
}

function vanished({ did, rev, time }: Range, uri: string): Version {
  return { uri, did, collection: uri.split('/', 4)[3]!, rev, time, fromExport: true }
}

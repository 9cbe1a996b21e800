/**
 * Cuts what is remembered at what came after it, when that arrives late: where a path was emptied, where another version of a follow or a list item began, and at the head of an export that had something else. What
 * arrives later still is cut when it is written (`remember.ts`).
 */
import { keyed } from '@sluice/collections/by-key.ts'
import { CLAIMED_FROM, KNOWN_FROM } from '@sluice/collections/define.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

/** A path was emptied at this rev. A version of before that arrives even later ended there, and not when the next one began. */
export interface Gap {
  uri: string
  did: string
  rev: string
}

export interface Cuts {
  gaps: readonly Gap[]
  /** Late versions that are remembered from their rev on. */
  versions: readonly { uri: string; since: string }[]
  /** Late ones that an export of that rev had, and since when they are remembered. */
  exported: readonly { uri: string; did: string; rev: string; since: string }[]
}

/** After the facts of the same batch. The answers need not be awaited. */
export function cutFacts(tx: Transaction, { gaps, versions, exported }: Cuts): void {
  if (versions.length > 0)
    void tx.query(CUT_AT_VERSIONS, [versions.map(({ uri }) => uri), versions.map(({ since }) => since)])
  if (exported.length > 0)
    void tx.query(CUT_AT_EXPORTS, [
      exported.map(({ uri }) => uri),
      exported.map(({ did }) => did),
      exported.map(({ rev }) => rev),
      exported.map(({ since }) => since),
    ])
  if (gaps.length > 0) void tx.query(CUT_AT_GAPS, [gaps.map(({ uri }) => uri), gaps.map(({ rev }) => rev)])
}

/** Written so that the index on `key` cannot match: gaps are found by their path. All gaps share one key, and a planner without statistics on it would scan every gap there is. */
export const isGap = (row: string): string => `${row}.key || '' = 'gap'`

/**
 * These gaps alone, and of each only what began after the gap before it: whatever began earlier was cut there, when that gap or the fact was written. The
 * path's facts times its gaps took 19 s for each creation once a path had been emptied and written anew 10,000 times.
 */
const CUT_AT_GAPS = {
  name: 'cut-at-gaps',
  text: `
    with cut as materialized (
      select held.uri, held.since, gap.since as until
      from (select distinct uri, rev from unnest($1::text[], $2::text[]) as news (uri, rev)) news
      cross join lateral (
        select uri, since from past_fact gap where gap.uri = news.uri and gap.since = news.rev and ${isGap('gap')} offset 0
      ) gap
      cross join lateral (
        select coalesce(max(since), '') as since from past_fact past
        where past.uri = gap.uri and past.since < gap.since and ${isGap('past')} offset 0
      ) before
      cross join lateral (
        select uri, since from past_fact past
        where past.uri = gap.uri and past.since >= before.since and past.since < gap.since and past.until > gap.since offset 0
      ) held
    )
    update past_fact as held set until = cut.until from cut where ${keyed('held.uri', 'cut.uri')} and held.since = cut.since`,
}

/** Whether a late version has got a fact: one that only repeats what is remembered has none, and ends nothing (`remember.ts`). */
const isRemembered = (late: string): string =>
  `(select true from past_fact own where own.uri = ${late}.uri and own.since = ${late}.since)`

/** Whether it is remembered from its version's rev on (`isOfRev`), of a row of the table or of one on its way to it. By its first characters: a post's fact may have a third of a megabyte. */
export const isVersion = (row: string): string =>
  `left(${row}.fact::text, 7) in ('"${KNOWN_FROM}"', '{"${CLAIMED_FROM}"')`

/**
 * What these end: of the versions before each the last, unless a gap has ended that. All others have been cut at what came after them, when that or they were written.
 */
const CUT_AT_VERSIONS = {
  name: 'cut-at-versions',
  text: `
    with cut as materialized (
      select before.uri, before.since, news.since as until
      from (
        select distinct uri, since from unnest($1::text[], $2::text[]) as late (uri, since) where ${isRemembered('late')}
      ) news
      cross join lateral (
        select uri, since, until, fact from past_fact past
        where past.uri = news.uri and past.since < news.since and (${isGap('past')} or ${isVersion('past')})
        order by since desc limit 1
      ) before
      where ${isVersion('before')} and before.until > news.since
    )
    update past_fact as held set until = cut.until from cut where ${keyed('held.uri', 'cut.uri')} and held.since = cut.since`,
}

/** What had begun before these and is remembered to have gone on: by the export's head it had ended. Only of the account's last export, since what a later one has brought says itself when it began, and may say too early. */
const CUT_AT_EXPORTS = {
  name: 'cut-at-exports',
  text: `
    with cut as materialized (
      select held.uri, held.since, news.rev as until
      from (
        select uri, did, rev, since from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as late (uri, did, rev, since)
        where (select "resyncRev" from actor_sync where actor_sync.did = late.did) = rev and ${isRemembered('late')} offset 0
      ) news
      cross join lateral (
        select uri, since from past_fact past
        where past.uri = news.uri and past.since < news.rev and past.until > news.rev and past.since <> news.since offset 0
      ) held
    )
    update past_fact as held set until = cut.until from cut where ${keyed('held.uri', 'cut.uri')} and held.since = cut.since`,
}

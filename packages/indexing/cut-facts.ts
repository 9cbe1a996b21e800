/**
 * Ends facts that are already written, when something arrives late that shows an earlier end: a gap (the path was
 * emptied), another version of a follow or a list item, or an export whose head had something else. Facts that arrive
 * even later are cut when they are written (`remember.ts`).
 *
 * Example: the fact of a gate says "from 1 to 9". Then a deletion of the gate at 5 arrives. The fact is cut to "from 1
 * to 5".
 */
import { keyed } from '@sluice/collections/by-key.ts'
import { CLAIMED_FROM, KNOWN_FROM } from '@sluice/collections/depends.ts'
import type { Transaction } from '@sluice/database/transaction.ts'

/**
 * A path was emptied at this rev and written again later. A version from before the gap that arrives even later ended
 * at the gap, and not when the next version began.
 */
export interface Gap {
  uri: string
  did: string
  rev: string
}

export interface Cuts {
  gaps: readonly Gap[]
  /** Late versions whose facts begin at their rev. `own`: the CID, if the version came with its own commit. */
  versions: readonly { uri: string; since: string; own: string | null }[]
  /** Late versions that an export with head `rev` had. `since`: when their facts begin. */
  exported: readonly { uri: string; did: string; rev: string; since: string }[]
}

/** Must run after the facts of the same batch are sent. The answers need not be awaited. */
export function cutFacts(tx: Transaction, { gaps, versions, exported }: Cuts): void {
  if (versions.length > 0)
    void tx.query(CUT_AT_VERSIONS, [
      versions.map(({ uri }) => uri),
      versions.map(({ since }) => since),
      versions.map(({ own }) => own),
    ])
  if (exported.length > 0)
    void tx.query(CUT_AT_EXPORTS, [
      exported.map(({ uri }) => uri),
      exported.map(({ did }) => did),
      exported.map(({ rev }) => rev),
      exported.map(({ since }) => since),
    ])
  if (gaps.length > 0) void tx.query(CUT_AT_GAPS, [gaps.map(({ uri }) => uri), gaps.map(({ rev }) => rev)])
}

/**
 * Whether a row is a gap. Written so that the index on `key` cannot match: gaps are found by their path. All gaps share
 * one key, and a planner without statistics about that would scan all of them.
 */
export const isGap = (row: string): string => `${row}.key || '' = 'gap'`

/**
 * Cuts at these gaps alone, and at each gap only what began after the gap before it. Facts that began earlier were cut
 * at that earlier gap, when it or they were written. To look at all facts of a path for all of its gaps took 19 s for
 * each creation, once a path had been emptied and written anew 10,000 times.
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

/** How many facts of exports after a version are taken to be of it. */
const EXPORTS_MAX = 8

/**
 * Whether a fact was written for a late version. A version that only repeats a fact has none, and ends nothing
 * (`facts.ts`).
 */
const isRemembered = (late: string): string =>
  `(select true from past_fact own where own.uri = ${late}.uri and own.since = ${late}.since)`

/**
 * Whether a fact begins at its version's rev (`isOfRev`): of a row of the table, or of a row that is being written. It
 * compares only the first characters, because a post's fact may have a third of a megabyte.
 */
export const isVersion = (row: string): string =>
  `left(${row}.fact::text, 7) in ('"${KNOWN_FROM}"', '{"${CLAIMED_FROM}"')`

/**
 * Each of these versions ends the last version before it, unless a gap ended that one already, and a gap that goes on
 * (`remember.ts`). All earlier versions were cut at their successors, when either was written.
 *
 * A version with its own commit also tells since when the exports right after it had it: their facts no longer count
 * from what the record claims. Of the facts after it a few are looked at. There are more only where more exports than
 * that came in another order.
 */
const CUT_AT_VERSIONS = {
  name: 'cut-at-versions',
  text: `
    with news as materialized (
      select distinct uri, since, own from unnest($1::text[], $2::text[], $3::text[]) as late (uri, since, own) where ${isRemembered('late')}
    ), cut as materialized (
      select before.uri, before.since, news.since as until, false as "isKnown"
      from (select distinct uri, since from news) news
      cross join lateral (
        select uri, since, until, fact from past_fact past
        where past.uri = news.uri and past.since < news.since and (${isGap('past')} or ${isVersion('past')})
        order by since desc limit 1
      ) before
      where before.until > news.since
    ), exported as materialized (
      select next.uri, next.since, next.until, true as "isKnown"
      from (select uri, since, own from news where own is not null) news
      cross join lateral (
        select uri, since, until, claims, bool_and("isSame") over (order by since) as "isSame" from (
          select uri, since, until, fact ->> '${CLAIMED_FROM}' is not null as claims,
            (since = news.since or fact ->> 'version' = news.own) is true as "isSame" from past_fact next
          where next.uri = news.uri and next.since >= news.since order by since limit ${EXPORTS_MAX}
        ) next
      ) next where "isSame" and claims
    )
    update past_fact as held set until = new.until, fact = case when "isKnown" then '"${KNOWN_FROM}"' else fact end
    from (
      select uri, since, min(until) as until, bool_or("isKnown") as "isKnown" from (
        select uri, since, until, "isKnown" from cut union all select uri, since, until, "isKnown" from exported
      ) change group by uri, since
    ) new where ${keyed('held.uri', 'new.uri')} and held.since = new.since`,
}

/**
 * Ends facts of the same path that began before these versions, state something else, and seem to go on beyond the
 * export's head: by then they had ended. This is done only for the account's last export. A later export may have
 * brought a fact whose claimed beginning is too early.
 */
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
        where past.uri = news.uri and past.since < news.rev and past.until > news.rev and past.since <> news.since
          and (select true from past_fact own where own.uri = news.uri and own.since = news.since and own.key || '' = past.key and own.fact = past.fact) is null
        offset 0
      ) held
    )
    update past_fact as held set until = cut.until from cut where ${keyed('held.uri', 'cut.uri')} and held.since = cut.since`,
}

/**
 * Writes facts: what was true of versions that are no longer in force, and from when to when (`past_fact`). Where facts
 * of one path meet that arrived in another order, each ends where the next one begins, whichever was written first.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import { CLAIMED_FROM, KNOWN_FROM, type Fact, type Statement } from '@sluice/collections/depends.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import { isGap, isVersion } from './cut-facts.ts'
import type { Past } from './version.ts'

/**
 * Facts are sent in portions of so many characters. A range of a few hundred bytes ends 2,000 posts in one transaction,
 * and the fact of a post with 10,000 mentions has 350 KB: held until the end of the transaction, they took gigabytes.
 */
const PORTION_CHARS = 4_000_000

export class FactWriter {
  readonly #tx: Transaction
  readonly #statement: Statement
  #rows: string[][] = []
  #chars = 0

  /** @param of versions that the index held until now, or versions that end in their batch or arrive after their end */
  constructor(tx: Transaction, of: 'held' | 'late') {
    this.#tx = tx
    this.#statement = of === 'held' ? REMEMBER_HELD : REMEMBER
  }

  /** @param head the head of the export that brought the version after its end, or '' */
  async add(
    { version: { uri, did }, until, supersededAt = until }: Past,
    { key, since, fact }: Fact,
    head: string,
  ): Promise<void> {
    const text = JSON.stringify(fact)
    this.#rows.push([uri, did, key, since, until, text, supersededAt, head])
    this.#chars += text.length
    if (this.#chars >= PORTION_CHARS) await this.flush()
  }

  /** Sends what has not been sent. The answer need not be awaited. */
  flush(): Promise<unknown> {
    const rows = this.#rows
    if (rows.length === 0) return Promise.resolve()
    this.#rows = []
    this.#chars = 0
    const exported = rows.filter((row) => row[7] !== '')
    if (exported.length > 0)
      void this.#tx.query(
        GOES_ON,
        [0, 3, 5, 6, 7].map((column) => exported.map((row) => row[column])),
      )
    return this.#tx.query(
      this.#statement,
      rows[0]!.map((_, column) => rows.map((row) => row[column])),
    )
  }
}

/**
 * Whether a late version came with an export and only repeats a fact that was in force at that export's head. Such a
 * version gets no fact: its fact would begin when the record claims that it was made, and would end the other fact,
 * which tells more. A relation's fact from its own commit (`KNOWN_FROM`) counts as the same if it has the same key.
 */
const isRepeated = (late: string): string => `(
      select true from past_fact same where same.uri = ${late}.uri and same.since <> ${late}.since and same.since < ${late}.head and same.until > ${late}.head
        and same.key || '' = ${late}.key and (same.fact = ${late}.fact::jsonb or (same.fact = '"${KNOWN_FROM}"' and ${isVersion(late)})) limit 1
    ) is not null`

/**
 * Whether what the path said last before this version goes on beyond the head of the export by which this one is taken
 * to have ended (`endedBy`). Then the index held the path across that head, and the export had it: an export that only
 * repeats what the index has leaves no trace. So this version goes on as long, unless one after it, which is still to
 * come, ends it.
 */
const GOES_BEYOND = `(
          select past.until from past_fact past where past.uri = ended.uri and past.since < ended.since order by since desc limit 1
        ) > until`

/**
 * The fact of a relation that an export brings after its end counts from when the record says on, but not from before
 * what is known last of the path, if that says the same: its own commit may have come before the export.
 */
const NOT_BEFORE = `(
      select jsonb_set(ended.fact::jsonb, '{${CLAIMED_FROM}}', to_jsonb(coalesce(before.fact ->> '${CLAIMED_FROM}', before.since))) from (
        select key, since, fact from past_fact past where past.uri = ended.uri and past.since < ended.since order by since desc limit 1
      ) before where before.key = ended.key and ${isVersion('before')}
    )`

/**
 * A fact ends at the next gap, and the fact of a relation at its next version, if these arrived first. A fact that is
 * already remembered may have gone on beyond an export that repeated it, so a redelivered version is not ended by that
 * export (`endedBy`).
 *
 * The conditions are scalar subqueries, each a look by key: for EXISTS, a planner without statistics would hash the
 * whole table.
 */
const remember = (name: string, until: string, also = ''): Statement => ({
  name,
  text: `
    with ended as materialized (
      select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
        as ended (uri, did, key, since, until, fact, "supersededAt", head)
    )${also}
    insert into past_fact as held (uri, did, key, since, until, fact)
    select distinct on (uri, since) uri, did, key, since, least(
      case
        when (select true from past_fact same where same.uri = ended.uri and same.since = ended.since) then "supersededAt"
        when until < "supersededAt" and ${isVersion('ended')} and ${GOES_BEYOND} then "supersededAt"
        else until end,
      (
        select min(later.since) from past_fact later where later.uri = ended.uri and later.since > ended.since and later.since < ended."supersededAt"
          and (${isGap('later')} or (${isVersion('ended')} and ${isVersion('later')}))
      )
    ), coalesce(case when head <> '' and ${isVersion('ended')} then ${NOT_BEFORE} end, fact::jsonb)
    from ended where head = '' or not ${isRepeated('ended')}
    order by uri, since, head desc, until
    on conflict (uri, since) do update set until = ${until}`,
})
const REMEMBER = remember('remember', 'least(held.until, excluded.until)')

/**
 * The index held a relation until now, dated by an older commit than the last one that is known: that one was dropped,
 * because the export had what the older commit said. So it was there until now, but not without a break since the older
 * commit. What is known last of the path goes on until now, unless a commit after it, which is still to come, ends it.
 */
const LAST_GOES_ON = `, prolonged as (
      update past_fact as held set until = last.until from (
        select last.uri, last.since, ended.until from (select uri, since, until from ended where ${isVersion('ended')}) ended
        cross join lateral (
          select uri, since, until, key, fact from past_fact past
          where past.uri = ended.uri and past.since > ended.since and past.since < ended.until order by since desc limit 1
        ) last where last.until < ended.until and (${isGap('last')} or ${isVersion('last')})
      ) last where ${keyed('held.uri', 'last.uri')} and held.since = last.since
    )`

/**
 * For versions that the index held until now. Suppose that two exports have the version, and that the older export
 * arrives between two parts of the newer one, or after it. Then a fact with the same beginning is there already, and
 * says that the version ended at the newer export's head. The index knows better: the later end counts. (Where both
 * exports come in one batch, the newer head counts.)
 */
const REMEMBER_HELD = remember(
  'remember-held',
  'case when held.fact = excluded.fact then greatest(held.until, excluded.until) else least(held.until, excluded.until) end',
  LAST_GOES_ON,
)

/**
 * For versions that a part of an export brings late. An older export may have brought the same version before, and then
 * its fact says that it ended at the head of the newer export. It did not: the newer export has it. So the fact goes on
 * to the version's true end.
 */
const GOES_ON: Statement = {
  name: 'goes-on',
  text: `
    update past_fact as held set until = late."supersededAt"
    from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) as late (uri, since, fact, "supersededAt", head)
    where ${keyed('held.uri', 'late.uri')} and held.since = late.since and held.until = late.head and held.fact = late.fact::jsonb
      and late.head < late."supersededAt"`,
}

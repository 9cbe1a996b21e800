/**
 * A follow or a list item that an export brought counts from when it says on, which usually is the time of its first
 * version (`when.ts`). When its own commit arrives later, it counts from that commit on, just as if the commit had come
 * first.
 *
 * Example: a follow of Cat is edited into a follow of Bob, and an export brings the edited record before the edit's own
 * commit. Until that commit arrives, Bob passes for followed since the follow of Cat was made. After it, the record has
 * the commit's rev, and Bob is followed since then.
 *
 * The commit may also have come before the record, and have been dropped as older than a watermark. Then its fact dates
 * the record at once.
 *
 * Versions that have ended are treated likewise where their facts are written (`cut-facts.ts`). The replies that are to
 * be judged again are found by what the record claims (`Touched.claims`).
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import { isOfRev, KNOWN_FROM } from '@sluice/collections/depends.ts'
import type { Transaction } from '@sluice/database/transaction.ts'
import type { Decisions, Known } from './decide.ts'
import type { Past, Version } from './version.ts'

/** A version with its own commit, which says what a living version from an export says. */
export interface OwnCommit {
  uri: string
  cid: string
  rev: string
  /** The key of its fact. */
  key: string
}

/**
 * Finds the versions of a batch that may be the own commits of what an export has brought. In the natural order there
 * are none.
 * @param newest the newest version of each path in the batch
 * @param known what the index held before the batch, by URI
 * @param folded versions that later versions of the same batch supersede
 */
export function findOwnCommits(
  newest: readonly Version[],
  known: ReadonlyMap<string, Known>,
  { past, repeated, replaced }: Decisions,
  folded: readonly Past[],
): OwnCommit[] {
  const late = [...[...folded, ...past].map(({ version }) => version), ...repeated].filter(isDated)
  if (late.length === 0) return []
  const uris = new Set(late.map(({ uri }) => uri))
  const newestOf = new Map(newest.flatMap((version) => (uris.has(version.uri) ? [[version.uri, version]] : [])))
  const written = new Set(replaced)
  const commits: OwnCommit[] = []
  for (const version of late) {
    const { uri, rev, content } = version
    const { cid, indexed } = content!
    const other = newestOf.get(uri)
    const before = known.get(uri)
    const isExported =
      (other?.fromExport === true && other.content?.cid === cid) ||
      (before?.state === 'living' && before.exported === true && before.cid === cid) ||
      written.has(version)
    if (isExported) commits.push({ uri, cid, rev, key: indexed!.plugin.remembers!(indexed!.entry).key })
  }
  return commits
}

/** Whether the version came with its own commit, and others are judged by when it began. */
function isDated(version: Version): boolean {
  return !version.fromExport && keyOf(version) !== undefined
}

/** The key of the fact of a relation. */
function keyOf({ content }: Version): string | undefined {
  const indexed = content?.indexed
  if (!indexed || indexed.plugin.derive) return undefined
  const fact = indexed.plugin.remembers?.(indexed.entry)
  return fact && isOfRev(fact) ? fact.key : undefined
}

/**
 * Finds the relations that a resync has brought and that are news: their own commits may have come before them. These
 * were dropped then, as older than the watermark, and left their facts. Without a watermark none is dropped.
 */
export function findExported(
  { fresh, replaced }: Decisions,
  resyncRevs: ReadonlyMap<string, string>,
): ReadonlyMap<string, ExportedRelation> {
  const exported = new Map<string, ExportedRelation>()
  if (resyncRevs.size === 0) return exported
  for (const version of [...fresh, ...replaced]) {
    const key = version.fromExport && resyncRevs.has(version.did) ? keyOf(version) : undefined
    if (key !== undefined) exported.set(version.uri, { cid: version.content!.cid, key })
  }
  return exported
}

interface ExportedRelation {
  cid: string
  key: string
}

/**
 * Finds the own commits of these relations that came before them: the last fact of the path, if it says the same and
 * its beginning is known. Facts of earlier exports are passed over. A fact has no CID. If it is of another version that
 * said the same, the record's own commit is still to come, and dates the record then.
 */
async function findRemembered(tx: Transaction, exported: ReadonlyMap<string, ExportedRelation>): Promise<OwnCommit[]> {
  if (exported.size === 0) return []
  const { rows } = await tx.query<LastFact>(LAST_FACTS, [[...exported.keys()]])
  return [...Map.groupBy(rows, ({ uri }) => uri)].flatMap(([uri, facts]) => {
    const { cid, key } = exported.get(uri)!
    const last = facts.toSorted((a, b) => (a.since < b.since ? 1 : -1)).find((fact) => fact.isKnown || fact.key !== key)
    return last?.isKnown && last.key === key ? [{ uri, cid, rev: last.since, key }] : []
  })
}

interface LastFact {
  uri: string
  key: string
  since: string
  isKnown: boolean
}

/**
 * Dates living records by their own commits. Must run after the batch's records and facts are written.
 *
 * A commit counts only if nothing is known to have been in between it and the export: what was deleted and written anew
 * with the same content has a later commit, which is still to come.
 */
export async function dateByOwnCommits(
  tx: Transaction,
  collections: CollectionSet,
  late: readonly OwnCommit[],
  exported: ReadonlyMap<string, ExportedRelation>,
): Promise<void> {
  const commits = latestOf([...late, ...(await findRemembered(tx, exported))])
  if (commits.length === 0) return
  const { rows } = await tx.query<{ uri: string }>(DATE, [
    commits.map(({ uri }) => uri),
    commits.map(({ cid }) => cid),
    commits.map(({ rev }) => rev),
    commits.map(({ key }) => key),
  ])
  for (const [nsid, dated] of Map.groupBy(
    rows.map(({ uri }) => uri),
    collectionOfUri,
  )) {
    const { name } = collections.plugin(nsid)!.tables[0]!
    void tx.query({ name: `touch-${name}`, text: touch(name) }, [dated])
    void tx.query({ name: 'touch-duplicates', text: touch('duplicate_record') }, [dated])
  }
}

/** Of each path the last one. */
function latestOf(commits: readonly OwnCommit[]): OwnCommit[] {
  const latest = new Map<string, OwnCommit>()
  for (const commit of commits) if ((latest.get(commit.uri)?.rev ?? '') < commit.rev) latest.set(commit.uri, commit)
  return [...latest.values()]
}

/** How many facts are looked at for the last one that is not of an earlier export. */
const LAST_MAX = 8

const LAST_FACTS = {
  name: 'last-facts',
  text: `
    select asked.uri, last.key, last.since, last.fact = '"${KNOWN_FROM}"' as "isKnown" from unnest($1::text[]) as asked (uri)
    cross join lateral (
      select key, since, fact from past_fact past where past.uri = asked.uri order by since desc limit ${LAST_MAX}
    ) last`,
}

/** How many facts between a commit and an export are looked at. Anybody can make any number of versions. */
const BETWEEN_MAX = 100

/**
 * Facts that began later are of exports that repeated the version. They would end the version's own fact, once that is
 * written.
 */
const DATE = {
  name: 'date-by-own-commits',
  text: `
    with dated as (
      update record set rev = own.rev, "fromExport" = null
      from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as own (uri, cid, rev, key)
      where ${keyed('record.uri', 'own.uri')} and record.cid = own.cid and (
        record."fromExport" and record.rev >= own.rev and (
          select true from (
            select key from past_fact where uri = own.uri and since > own.rev and since < record.rev order by since limit ${BETWEEN_MAX}
          ) other where other.key <> own.key limit 1
        ) is null or record.rev = own.rev
      )
      returning record.uri, own.rev, own.key
    ), repeated as (
      delete from past_fact using dated
      where ${keyed('past_fact.uri', 'dated.uri')} and past_fact.since > dated.rev and past_fact.key || '' = dated.key
    )
    select uri from dated`,
}

/**
 * Writes rows as they are: a transaction beside this one judges by the time that the record claims, and finds by these
 * rows that another one has written meanwhile (`overtaken.ts`).
 */
function touch(table: string): string {
  return `update "${table}" set cid = cid where uri = any($1::text[])`
}

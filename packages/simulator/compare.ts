/**
 * The index against the truth: every table that is filled from the firehose, row by row and column by column, and what
 * the index says of itself against what it holds.
 *
 * When something was indexed depends on whether it came with its own commit or with an export. So of each record the
 * time must be one of these, and all its rows must have it.
 */
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collections } from '@sluice/collections/collections.ts'
import { wrongCounters } from '@sluice/indexing/testing/recount.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { rowDifferences } from './row-differences.ts'
import { TrueCounts, type Told } from './true-counts.ts'
import { isInOwnThread, trueRows, type Row } from './true-rows.ts'
import type { TrueRecord, Truth } from './truth.ts'

/** Tables whose rows follow from records alone, with the columns that name a row. */
const KEYS: Readonly<Record<string, readonly string[]>> = {
  record: ['uri'],
  duplicate_record: ['uri'],
  profile: ['uri'],
  post: ['uri'],
  feed_item: ['uri'],
  post_embed_image: ['postUri', 'position'],
  post_embed_gallery_image: ['postUri', 'position'],
  post_embed_external: ['postUri'],
  post_embed_record: ['postUri', 'embedUri'],
  post_embed_video: ['postUri'],
  quote: ['uri'],
  like: ['uri'],
  repost: ['uri'],
  follow: ['uri'],
  actor_block: ['uri'],
  list: ['uri'],
  list_item: ['uri'],
  list_block: ['uri'],
  thread_gate: ['uri'],
  post_gate: ['uri'],
  feed_generator: ['uri'],
  starter_pack: ['uri'],
  labeler: ['uri'],
  verification: ['uri'],
  reference_list_opt_out: ['uri'],
}
const OTHER_TABLES = ['actor', 'actor_sync', 'label', 'notification', 'op_thread_reply', 'post_agg', 'profile_agg']
export const RECORD_TABLES: readonly string[] = Object.keys(KEYS)
export const COMPARED_TABLES: readonly string[] = [...RECORD_TABLES, ...OTHER_TABLES]

const VERDICTS = ['invalidReplyRoot', 'violatesThreadGate', 'violatesEmbeddingRules'] as const
const GATES = { hasThreadGate: 'app.bsky.feed.threadgate', hasPostGate: 'app.bsky.feed.postgate' } as const
/** Columns that are ours alone, and those that depend on other records. */
const APART: Readonly<Record<string, readonly string[]>> = {
  record: ['rev', 'fromExport'],
  post: [...VERDICTS, ...Object.keys(GATES)],
}
const LINES = 12

/** The rows of each compared table. */
export type Tables = ReadonlyMap<string, readonly Row[]>
type Read = (table: string) => readonly Row[]
type Times = (uri: string) => string

/** Every difference as a line, at most some of each kind; none: the index is right. */
export async function differences(db: DatabasePool, truth: Truth): Promise<string[]> {
  const [tables, counted, waiting] = await Promise.all([
    readTables(db),
    wrongCounters(db, new CollectionSet(collections)),
    waitsForEver(db),
  ])
  return [...tableDifferences(tables, truth), ...fewOf(counted), ...fewOf(waiting)]
}

export async function readTables(db: DatabasePool): Promise<Tables> {
  return new Map(await Promise.all(COMPARED_TABLES.map(async (table) => [table, await rowsOf(db, table)] as const)))
}

/** What these rows say that is not true. @param only one table; default: all */
export function tableDifferences(tables: Tables, truth: Truth, only?: string): string[] {
  const read: Read = (table) => tables.get(table)!
  const indexed = new Map(read('record').map(({ uri, indexedAt }) => [uri as string, indexedAt as string]))
  const times: Times = (uri) => indexed.get(uri) ?? truth.startedAt
  const rows = trueRows(truth, times)
  const counts = new TrueCounts(truth)
  const looks: [table: string, look: () => string[]][] = [
    ...Object.entries(KEYS).map(([table, key]): [string, () => string[]] => {
      const compared = { key, expected: rows.get(table) ?? [], found: read(table), apart: APART[table] ?? [] }
      return [table, () => rowDifferences(table, compared)]
    }),
    ['record', () => wrongTimes(truth, indexed)],
    ['post', () => verdicts(truth, counts, read('post'))],
    ...Object.entries(counts.counters()).map(([name, counted]): [string, () => string[]] => {
      return [name.split('.')[0]!, () => counters(name, counted, read)]
    }),
    ['profile_agg', () => makers(counts, read('profile_agg'))],
    ['notification', () => notifications(truth, counts, read('notification'), times)],
    ['op_thread_reply', () => threadReplies(truth, read('op_thread_reply'))],
    ['label', () => labels(truth, read('label'))],
    ['actor', () => accounts(truth, read('actor'))],
    ['actor_sync', () => heads(truth, read('actor_sync'))],
  ]
  return looks.flatMap(([table, look]) => (only === undefined || table === only ? fewOf(look()) : []))
}

function labels(truth: Truth, found: readonly Row[]): string[] {
  const expected = [...truth.labels.values()].map((label) => ({ ...label }))
  return rowDifferences('label', { key: ['src', 'uri', 'cid', 'val'], expected, found })
}

function fewOf(lines: string[]): string[] {
  return lines.length <= LINES ? lines : [...lines.slice(0, LINES), `… and ${lines.length - LINES} more like these`]
}

async function rowsOf(db: DatabasePool, table: string): Promise<Row[]> {
  const { rows } = await db.query<{ row: Row }>(`select to_jsonb(t) as row from "${table}" t`)
  return rows.map(({ row }) => row)
}

function wrongTimes(truth: Truth, indexed: ReadonlyMap<string, string>): string[] {
  return [...indexed].flatMap(([uri, time]) => {
    const version = truth.records.get(uri)
    if (!version || time === new Date(version.at).toISOString() || time >= truth.startedAt) return []
    return [`record ${uri}: indexedAt is ${time}, and should be that of its commit or of an export`]
  })
}

/** A gate that is not there and a rule that is kept may be null or false: readers do not tell these apart. */
function verdicts(truth: Truth, { verdicts: known }: TrueCounts, posts: readonly Row[]): string[] {
  const gated = Object.entries(GATES).map(([column, collection]): [string, Set<unknown>] => {
    return [column, new Set(truth.of(collection).map(([, { record }]) => record.post))]
  })
  return posts.flatMap((row) => {
    const uri = row.uri as string
    const expected = known.get(uri)
    if (!expected) return []
    const all = [
      ...VERDICTS.map((column) => [column, expected[column]] as const),
      ...gated.map(([column, uris]) => [column, uris.has(uri)] as const),
    ]
    return all.flatMap(([column, verdict]) => {
      const found = row[column] === true
      return verdict === undefined || verdict === found
        ? []
        : [`post ${uri}: ${column} is ${found}, and should be ${verdict}`]
    })
  })
}

/** A count of zero may be a row or none. */
function counters(name: string, counted: ReadonlyMap<string, { least: number; most: number }>, read: Read): string[] {
  const [table, column] = name.split('.') as [string, string]
  const key = table === 'post_agg' ? 'uri' : 'did'
  const found = new Map(read(table).map((row) => [row[key] as string, row[column] as number]))
  return [...new Set([...counted.keys(), ...found.keys()])].flatMap((of) => {
    const { least, most } = counted.get(of) ?? { least: 0, most: 0 }
    const n = found.get(of) ?? 0
    return n >= least && n <= most
      ? []
      : [`${name} of ${of} is ${n}, and should be ${least === most ? least : `${least} to ${most}`}`]
  })
}

function makers(counts: TrueCounts, found: readonly Row[]): string[] {
  const held = new Set(found.map(({ did }) => did))
  return [...counts.makers()].flatMap((did) =>
    held.has(did) ? [] : [`profile_agg lacks ${did}, whose lists are counted beside it`],
  )
}

/** What was told to somebody who is gone is of no account. */
function notifications(truth: Truth, counts: TrueCounts, found: readonly Row[], times: Times): string[] {
  const lives = ({ did }: { did?: unknown }): boolean => !truth.isDeleted(did as string)
  const key = ['did', 'recordUri', 'reason', 'reasonSubject']
  const nameOf = (row: Row): string => key.map((column) => row[column]).join(' ')
  const { certain, open } = counts.notices()
  const may = new Set(open.map((told) => nameOf({ ...told })))
  const isOpen = new Set<Row>(found.filter((row) => may.has(nameOf(row))))
  const told = found.filter(lives)
  return [
    ...rowDifferences('notification', {
      key,
      expected: certain.filter(lives).map((one) => noticeOf(one, truth, times)),
      found: told.filter((row) => !isOpen.has(row)),
      apart: ['id'],
    }),
    ...told
      .filter((row) => isOpen.has(row) && truth.records.has(row.recordUri as string))
      .flatMap((row) => {
        const expected = [noticeOf(row as unknown as Told, truth, times)]
        return rowDifferences('notification', { key, expected, found: [row], apart: ['id'] })
      }),
    ...twice(told.filter(({ reason }) => POST_REASONS.has(reason))),
  ]
}

const POST_REASONS: ReadonlySet<unknown> = new Set(['mention', 'quote', 'reply'])

/** Nobody is told twice of one post, or the same twice. */
function twice(rows: readonly Row[]): string[] {
  const byTold = Map.groupBy(rows, ({ did, recordUri }) => `${String(did)} of ${String(recordUri)}`)
  return [...byTold].flatMap(([name, all]) =>
    all.length > 1 ? [`notification: ${name} is told ${all.length} times`] : [],
  )
}

function noticeOf({ did, recordUri, reason, reasonSubject }: Told, truth: Truth, times: Times): Row {
  const version = truth.records.get(recordUri)!
  const sortAt = TrueCounts.sortAt(version, times(recordUri))
  return { did, recordUri, recordCid: version.cid, author: version.did, reason, reasonSubject, sortAt }
}

/** A reply that is gone keeps its place, marked as deleted, if the index has ever seen it. */
function threadReplies(truth: Truth, found: readonly Row[]): string[] {
  const rowOf = ([uri, { record }]: [string, TrueRecord]): Row => {
    const { root, parent } = record.reply as Record<string, { uri: string }>
    return { rootUri: root!.uri, parentUri: parent!.uri, uri, deletedAt: null }
  }
  const inOwn = ([, version]: [string, TrueRecord]): boolean => isInOwnThread(version)
  const living = truth.of(POST).filter(inOwn)
  const gone = new Map(
    truth
      .endedOf(POST)
      .filter(([uri, version]) => !truth.records.has(uri) && isInOwnThread(version))
      .map((one) => [one[0], { ...rowOf(one), until: new Date(one[1].until).toISOString() }]),
  )
  const isGone = ({ uri }: Row): boolean => gone.has(uri as string)
  return [
    ...rowDifferences('op_thread_reply', {
      key: ['uri'],
      expected: living.map(rowOf),
      found: found.filter((row) => !isGone(row)),
    }),
    ...found.filter(isGone).flatMap((row) => {
      const { until, ...place } = gone.get(row.uri as string)!
      const lines = rowDifferences('op_thread_reply', {
        key: ['uri'],
        expected: [place],
        found: [row],
        apart: ['deletedAt'],
      })
      const isMarked = typeof row.deletedAt === 'string' && row.deletedAt >= until
      return isMarked
        ? lines
        : [
            ...lines,
            `op_thread_reply ${String(row.uri)} is deleted at ${String(row.deletedAt)}, and should be by ${until}`,
          ]
    }),
  ]
}

const POST = 'app.bsky.feed.post'

/** An account that is gone is nowhere, or is said to be. */
function accounts(truth: Truth, found: readonly Row[]): string[] {
  const held = new Set(found.map(({ did }) => did))
  const expected = [...truth.statuses].filter(([did, status]) => status !== 'deleted' || held.has(did))
  return rowDifferences('actor', {
    key: ['did'],
    apart: ['indexedAt'],
    found,
    expected: expected.map(([did, status]) => ({
      did,
      // Chaos verifies no handles.
      handle: null,
      upstreamStatus: status ?? null,
      takedownRef: null,
      trustedVerifier: false,
      ageAssuranceStatus: null,
      ageAssuranceLastInitiatedAt: null,
      ageAssuranceAccess: null,
      ageAssuranceCountryCode: null,
      ageAssuranceRegionCode: null,
    })),
  })
}

/** How far each repository is indexed. */
function heads(truth: Truth, found: readonly Row[]): string[] {
  const lives = (did: string): boolean => !truth.isDeleted(did)
  return rowDifferences('actor_sync', {
    key: ['did'],
    apart: ['resyncRev', 'accountAt'],
    expected: [...truth.heads]
      .filter(([did]) => lives(did))
      .map(([did, { commit, rev }]) => ({ did, commitCid: commit, repoRev: rev })),
    found: found.filter(({ did }) => lives(did as string)),
  })
}

/**
 * What waits for ever: a duplicate of nothing, a purge that nobody carries out, a question that nobody asks, a record
 * that nobody settles.
 */
export async function waitsForEver(db: DatabasePool): Promise<string[]> {
  const { rows } = await db.query<{ line: string }>(
    `select 'account_deletion of ' || did || ' is ' || state as line from account_deletion where state <> 'purged'
     union all select 'account_check of ' || did from account_check where state <> 'asked'
     union all select 'settle_later of ' || uri from settle_later
     union all select 'duplicate_record ' || uri || ' is of no record' from duplicate_record d
       where not exists (select from record where record.uri = d.uri)`,
  )
  return rows.map(({ line }) => line)
}

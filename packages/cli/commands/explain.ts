/**
 * `sluice explain`: follows one record or account through the pipeline, and tells where it is and why it is not where
 * it should be.
 */
import { isDid } from '@sluice/atproto/syntax.ts'
import { describeError } from '@sluice/runtime/errors.ts'
import type { ChainRecord } from '@sluice/streams/chain-state.ts'
import { wholeNumber } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { explainIndex, type IndexPlace } from '../explain-index.ts'
import { explainStreams, type Letter, type QueuePlace } from '../explain-streams.ts'
import { Network } from '../network.ts'
import { count, duration, oneLine } from '../output.ts'
import type { Session } from '../session.ts'
import { assertInShard } from '../shard.ts'

interface PdsPlace {
  host?: string
  /** The rev of the account's repository. */
  rev?: string
  /** The CID of the record; absent: the record is not there, or was not asked for. */
  cid?: string
  exists?: boolean
  /** Why the PDS was not asked, or could not be. */
  unknown?: string
}

export interface Explanation {
  subject: string
  pds: PdsPlace
  queued: QueuePlace
  index: IndexPlace
  verdict: string
}

export const addExplain: Add = (cli, parent) => {
  parent
    .command('explain')
    .description('follow a record or an account: at its PDS, in a stream, pending, given up, in the index, counted')
    .argument('<subject>', 'an at:// URI of a record, or a DID')
    .option(
      '--scan <entries>',
      'of each stream, look at so many of the oldest and the newest entries',
      wholeNumber(0),
      20_000,
    )
    .option('--offline', 'do not ask the network')
    .addHelpText(
      'after',
      examples(
        ['sluice explain at://did:plc:…/app.bsky.feed.post/3l…', 'why is this post not shown?'],
        ['sluice explain did:plc:…', 'where does this account stand?'],
      ),
    )
    .action((subject: string, { scan, offline = false }: { scan: number; offline?: boolean }) =>
      cli.run((session) => explain(session, subject, { scan, offline })),
    )
}

async function explain(
  session: Session,
  subject: string,
  { scan, offline }: { scan: number; offline: boolean },
): Promise<number> {
  const match = /^(?:at:\/\/)?(did:[^/]+)(?:\/([^/]+)\/([^/]+))?$/.exec(subject)
  const did = match?.[1]
  if (match === null || did === undefined || !isDid(did))
    throw new CannotError(`${subject} is neither at://did/collection/rkey nor a DID`)
  assertInShard(did, session.settings.shard)
  const path = match[2] === undefined ? undefined : `${match[2]}/${match[3]}`
  const uri = path === undefined ? undefined : `at://${did}/${path}`
  const redis = await session.redis()
  const db = await session.db()
  const [pds, queued, index] = await Promise.all([
    offline ? { unknown: 'not asked (--offline)' } : atPds(session, did, path),
    explainStreams(redis, session.settings, { did, uri, scan }),
    explainIndex(db, session.settings, did, uri),
  ])
  const explanation: Explanation = { subject: uri ?? did, pds, queued, index, verdict: '' }
  explanation.verdict = uri === undefined ? verdictOfAccount(explanation) : verdictOf(explanation)
  session.out.document(explanation)
  show(session, explanation, path)
  return EXIT.done
}

async function atPds(session: Session, did: string, path: string | undefined): Promise<PdsPlace> {
  await using network = new Network(session.settings, session.signal)
  let place: PdsPlace = {}
  try {
    const { pds } = await network.account(did)
    place = { host: new URL(pds).host }
    const { rev } = await network.head(pds, did)
    place = { ...place, rev }
    if (path === undefined) return place
    const record = await network.record(pds, did, path)
    return { ...place, exists: record !== undefined, ...(record && { cid: record.cid }) }
  } catch (error) {
    return { ...place, unknown: oneLine(error instanceof CannotError ? error.message : describeError(error)) }
  }
}

/**
 * Where the record stands. A dead letter may be of any version, so it is the verdict only where nothing else is known
 * of the record; otherwise it is named beside it. Pure.
 */
function verdictOf(explanation: Explanation): string {
  const { queued, index } = explanation
  const letter = newestOf(queued.deadLetters)
  if (letter === undefined) return standingOf(explanation)
  const show = `sluice dlq show ${letter.id}`
  const { record, tombstone } = index
  if (!record && !tombstone && queued.entries.length === 0) return `it was given up: ${show}`
  return `${standingOf(explanation)}; ${versionOf(letter, record?.rev ?? tombstone?.rev)} was given up: ${show}`
}

/** @param known the rev that the index has; undefined: it has none, or does not know it */
function versionOf({ rev }: Letter, known: string | undefined): string {
  if (rev === undefined || known === undefined) return 'an entry of it'
  return rev > known ? 'a newer version' : 'an entry that brings nothing newer'
}

function newestOf(letters: readonly Letter[]): Letter | undefined {
  return letters.toSorted(({ rev: a = '' }, { rev: b = '' }) => (a < b ? -1 : a > b ? 1 : 0)).at(-1)
}

/** The first thing that holds up the record, looking from the index backwards; dead letters aside. */
function standingOf({ pds, queued, index }: Explanation): string {
  const [entry] = queued.entries
  if (entry) {
    const holder = entry.consumer === undefined ? 'nobody has taken it yet' : `${entry.consumer} has it`
    return `it is on its way: entry ${entry.id} of ${entry.stream}, ${holder}`
  }
  const { record, tombstone, duplicate, tables, hasPlugin } = index
  if (record && pds.exists === false)
    return 'it is in the index and not in the repository: sluice verify <did> --repair'
  if (record && pds.cid !== undefined && pds.cid !== record.cid)
    return 'the index has another version of it than the repository: sluice verify <did> --repair'
  if (record && duplicate) return `it waits as a duplicate of ${duplicate.duplicateOf}, which has the rows`
  if (record && hasPlugin && tables.length === 0)
    return 'its record is there, and the rows of its collection are not: sluice verify <did> --repair'
  if (record) return 'it is in the index'
  if (tombstone) {
    return pds.exists === true
      ? `the index holds it for deleted at ${tombstone.rev}, and the repository has it: sluice verify <did> --repair`
      : `it was deleted at ${tombstone.rev}`
  }
  if (!index.stored) return 'its collection is not indexed (INDEXER_COLLECTIONS)'
  if (queued.fetches.length > 0) return 'its repository is to be fetched: it comes with the export'
  if (pds.exists === true)
    return 'it is in the repository and nowhere here: sluice verify <did> says whether it is valid, and mends it with --repair'
  return pds.exists === false ? 'it does not exist' : 'it is nowhere here; its PDS could not be asked'
}

function verdictOfAccount({ pds, queued, index }: Explanation): string {
  if (queued.fetches.length > 0) return `its repository is to be fetched: ${queued.fetches[0]!.where}`
  if (queued.deadLetters.length > 0) return `something of it was given up: sluice dlq show ${queued.deadLetters[0]!.id}`
  if (!index.actor) return 'the index does not know it: sluice backfill did <did>'
  if (index.actor.upstreamStatus !== null)
    return `its host says that it is ${index.actor.upstreamStatus}: the AppView does not show it`
  if (queued.chain?.resync) return 'commits are missing, and an export has been asked for'
  const rev = index.sync?.repoRev ?? ''
  if (pds.rev !== undefined && rev < pds.rev)
    return `the index is at ${rev || 'nothing'}, its PDS at ${pds.rev}: sluice verify <did>`
  return 'it is complete as far as can be told; sluice verify <did> compares every record'
}

/** The answer for people: each place in a row. */
function show({ out }: Session, explanation: Explanation, path: string | undefined): void {
  const row: Row = (name, text) => out.line(`  ${name.padEnd(12)} ${text}`)
  out.heading(explanation.subject)
  showPds(row, explanation.pds, path)
  showStreams(row, explanation.queued)
  showAccount(row, explanation.index)
  if (path !== undefined) showRecord(row, explanation.index)
  out.line(`  ${out.paint('strong', `→ ${explanation.verdict}`)}`)
}

type Row = (name: string, text: string) => void

function showPds(row: Row, { host, rev, exists, cid, unknown }: PdsPlace, path: string | undefined): void {
  const record = path === undefined || exists === undefined ? '' : exists ? `has it, ${cid}` : 'does not have it'
  row('PDS', [host, rev && `head ${rev}`, record, unknown].filter(Boolean).join('; '))
}

function showStreams(row: Row, { chain, entries, fetches, deadLetters, isPartial }: QueuePlace): void {
  row('chain', chain ? describeChain(chain) : 'unknown')
  for (const { stream, id, about, consumer, idleMs = 0, deliveries } of entries.slice(0, 10)) {
    const holder =
      consumer === undefined
        ? ''
        : `; pending at ${consumer} for ${duration(idleMs / 1_000)}, handed out ${deliveries} times`
    row('in a stream', `${stream} ${id}: ${oneLine(about)}${holder}`)
  }
  if (entries.length === 0)
    row('in a stream', `in none${isPartial ? ' of the entries that were looked at (--scan looks at more)' : ''}`)
  for (const { where, reason } of fetches.slice(0, 5))
    row('to be fetched', oneLine(`${where}${reason ? `, ${reason}` : ''}`))
  for (const { stream, id, reason, message } of deadLetters.slice(0, 5))
    row('given up', oneLine(`${stream} ${id}: ${reason}, ${message}`))
}

function describeChain({ rev, exported, resync, inactive }: ChainRecord): string {
  const parts = [`at ${rev || 'nothing'}`, exported ? 'exported once' : 'never exported']
  if (resync) parts.push(`needs an export at ${resync.need || 'any rev'}`)
  if (inactive) parts.push('inactive')
  return parts.join(', ')
}

function showAccount(row: Row, { actor, sync, records }: IndexPlace): void {
  const status = actor?.upstreamStatus ? `, ${actor.upstreamStatus}` : ''
  const takedown = actor?.takedownRef ? ', taken down here' : ''
  row('account', actor ? `${actor.handle ?? 'no handle'}${status}${takedown}` : 'not in the index')
  const exported = sync?.resyncRev ? `, exported at ${sync.resyncRev}` : ''
  row('repository', sync ? `at ${sync.repoRev ?? 'no rev'}${exported}, ${count(records)} records` : 'never seen')
}

function showRecord(row: Row, index: IndexPlace): void {
  const { record, tombstone, duplicate, hasPlugin, tables, counters, notifications } = index
  const rev = record?.rev ?? 'unknown (another indexer wrote it)'
  row('record', record ? `${record.cid} at rev ${rev}${record.fromExport ? ', from an export' : ''}` : 'none')
  if (tombstone) {
    const inDoubt = record ? '; older than the last export, so the record may have been written anew' : ''
    row('tombstone', `deleted at rev ${tombstone.rev}, ${tombstone.deletedAt}${inDoubt}`)
  }
  if (duplicate) row('duplicate', `waits for ${duplicate.duplicateOf}`)
  if (hasPlugin) row('rows in', tables.map(({ table, rows }) => `${table} (${rows})`).join(', ') || 'none')
  for (const { table, column, key, value } of counters)
    row('counts in', oneLine(`${table}.${column} of ${key}, now ${value ?? 'no row'}`))
  row('notified', `${notifications} notifications`)
}

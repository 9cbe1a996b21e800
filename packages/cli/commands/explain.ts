/** `sluice explain`: follows one record, or one account, through the pipeline: where it is, and why it is not where it should be. */
import { isDid } from '@sluice/atproto/syntax.ts'
import { describeError } from '@sluice/runtime/errors.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { explainIndex, type IndexPlace } from '../explain-index.ts'
import { explainStreams, type QueuePlace } from '../explain-streams.ts'
import { Network } from '../network.ts'
import { count, duration, oneLine } from '../output.ts'
import type { Session } from '../session.ts'
import { assertInShard } from '../shard.ts'

interface PdsPlace {
  host?: string
  /** Of the account's repository. */
  rev?: string
  /** Of the record; absent: it is not there, or was not asked for. */
  cid?: string
  exists?: boolean
  /** Why nobody could tell. */
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
    .option('--scan <entries>', 'of each stream, look at so many of the oldest and the newest entries', '20000')
    .option('--offline', 'do not ask the network')
    .addHelpText(
      'after',
      examples(
        ['sluice explain at://did:plc:…/app.bsky.feed.post/3l…', 'why is this post not shown?'],
        ['sluice explain did:plc:…', 'where does this account stand?'],
      ),
    )
    .action((subject: string, { scan, offline = false }: { scan: string; offline?: boolean }) =>
      cli.run((session) => explain(session, subject, { scan: Number(scan), offline })),
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

/** The first thing that holds it up, from the index backwards. Pure. */
function verdictOf({ pds, queued, index }: Explanation): string {
  const [entry] = queued.entries
  if (queued.deadLetters.length > 0) return `it was given up: sluice dlq show ${queued.deadLetters[0]!.id}`
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

function show({ out }: Session, { subject, pds, queued, index, verdict }: Explanation, path: string | undefined): void {
  const row = (name: string, text: string): void => out.line(`  ${name.padEnd(12)} ${text}`)
  out.heading(subject)
  const atHost = [pds.host, pds.rev && `head ${pds.rev}`, path && pds.exists !== undefined && (pds.exists ? `has it, ${pds.cid}` : 'does not have it'), pds.unknown] // prettier-ignore
  row('PDS', atHost.filter(Boolean).join('; '))
  const { chain, entries, deadLetters, fetches } = queued
  row(
    'chain',
    chain
      ? `at ${chain.rev || 'nothing'}, ${chain.exported ? 'exported once' : 'never exported'}${chain.resync ? `, needs an export at ${chain.resync.need || 'any rev'}` : ''}${chain.inactive ? ', inactive' : ''}`
      : 'unknown',
  )
  for (const entry of entries.slice(0, 10)) {
    row(
      'in a stream',
      `${entry.stream} ${entry.id}: ${oneLine(entry.about)}${entry.consumer === undefined ? '' : `; pending at ${entry.consumer} for ${duration((entry.idleMs ?? 0) / 1_000)}, handed out ${entry.deliveries} times`}`,
    )
  }
  if (entries.length === 0)
    row('in a stream', `in none${queued.isPartial ? ' of the entries that were looked at (--scan looks at more)' : ''}`)
  for (const fetch of fetches.slice(0, 5))
    row('to be fetched', oneLine(`${fetch.where}${fetch.reason ? `, ${fetch.reason}` : ''}`))
  for (const letter of deadLetters.slice(0, 5))
    row('given up', oneLine(`${letter.stream} ${letter.id}: ${letter.reason}, ${letter.message}`))
  const { actor, sync, record, tombstone, duplicate, tables, counters, notifications } = index
  row(
    'account',
    actor
      ? `${actor.handle ?? 'no handle'}${actor.upstreamStatus ? `, ${actor.upstreamStatus}` : ''}${actor.takedownRef ? ', taken down here' : ''}`
      : 'not in the index',
  )
  row(
    'repository',
    sync
      ? `at ${sync.repoRev ?? 'no rev'}${sync.resyncRev ? `, exported at ${sync.resyncRev}` : ''}, ${count(index.records)} records`
      : 'never seen',
  )
  if (path !== undefined) {
    row(
      'record',
      record
        ? `${record.cid} at rev ${record.rev ?? 'unknown (another indexer wrote it)'}${record.fromExport ? ', from an export' : ''}`
        : 'none',
    )
    if (tombstone) {
      const inDoubt = record ? '; older than the last export, so the record may have been written anew' : ''
      row('tombstone', `deleted at rev ${tombstone.rev}, ${tombstone.deletedAt}${inDoubt}`)
    }
    if (duplicate) row('duplicate', `waits for ${duplicate.duplicateOf}`)
    if (index.hasPlugin) row('rows in', tables.map(({ table, rows }) => `${table} (${rows})`).join(', ') || 'none')
    for (const { table, column, key, value } of counters)
      row('counts in', oneLine(`${table}.${column} of ${key}, now ${value ?? 'no row'}`))
    row('notified', `${notifications} notifications`)
  }
  out.line(`  ${out.paint('strong', `→ ${verdict}`)}`)
}

/**
 * Appends a verified export: chunk by chunk, each in one atomic step, and the chain state with the last chunk. Decides
 * whether the export is the first one of its account, or a resync that also removes records.
 */
import { setImmediate } from 'node:timers/promises'
import type { RepoExport } from '@sluice/atproto/repo-export.ts'
import type { CollectionFilter } from '@sluice/collections/patterns.ts'
import type { BackfillEvent } from '@sluice/events/backfill-event.ts'
import { crashPoint } from '@sluice/runtime/crash-points.ts'
import {
  beginExport,
  completeExport,
  encodeChain,
  moveChain,
  readChains,
  type StoredChain,
} from '@sluice/streams/chain-state.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { ExportProgress } from '@sluice/streams/export-progress.ts'
import { StateConflictError, type Producer, type Step } from '@sluice/streams/producer.ts'
import { chunksOf, eventsOf, headOf, type ExportChunk, type ExportEvent } from './export-events.ts'
import { refuse } from './failures.ts'

export interface AppendContext {
  redis: Redis
  producer: Producer<ExportEvent>
  wanted: CollectionFilter
  /** Every export, also a first one, removes what the repository no longer has (`BACKFILLER_EXPORTS=resync`). */
  alwaysResync: boolean
  onChunk: (chunk: ExportChunk) => void
}

/** What was appended. */
export interface AppendedExport {
  kind: 'exported'
  /** The export also removes records. */
  resync: boolean
  records: number
}

/**
 * Appends all chunks of a verified export. The chain state moves with the last chunk. While one chunk is on its way to
 * Redis, the next one is made.
 * @throws RefusedError `export-overtaken` when the export is older than what the index misses by now, when live commits
 * were sent on during a first export, or when Redis has lost a chunk meanwhile; FatalError, AbortError
 */
export async function appendExport(
  context: AppendContext,
  repo: RepoExport,
  entry: BackfillEvent,
  time: string,
  signal: AbortSignal,
): Promise<AppendedExport> {
  const { producer, wanted, onChunk } = context
  const untouched = await untouchedChain(context, entry)
  const resync = untouched === undefined
  const progress = new ExportProgress(producer.stream, repo.did)
  let records = 0
  let isFirst = true
  let appending: Promise<unknown> = Promise.resolve()
  for (const chunk of chunksOf(repo, { time, resync, wanted })) {
    await appending
    if (!isFirst) crashPoint('chunk.between')
    onChunk(chunk)
    records += chunk.creates.length
    const events = eventsOf(chunk)
    if (events.length === 0 && !chunk.isLast) {
      // A chunk without events: up to 5,000 keys whose records are not carried. No append is awaited here, so the other
      // exports get the thread in this way.
      await setImmediate()
      signal.throwIfAborted()
      continue
    }
    if (chunk.isLast) {
      events.push(headOf(repo, time))
      const also = [
        ...progress.next(chunk),
        ...(untouched ? [stillUntouched(repo.did, untouched, isFirst)] : []),
        completeExport(repo.did, repo),
      ]
      const { stale } = await producer.append(events, signal, { also }).catch(asOvertaken)
      if (stale > 0) throw refuse('export-overtaken', `${repo.rev} does not reach what is missing`)
    } else {
      const also = [...progress.next(chunk), ...(isFirst ? [beginExport(repo.did)] : [])]
      appending = producer.append(events, signal, { also }).catch(asOvertaken)
      // The next round awaits `appending`. When making the next chunk fails, nobody does: without a handler, a failure
      // of the append would then end the process as an unhandled rejection.
      appending.catch(() => undefined)
    }
    isFirst = false
  }
  return { kind: 'exported', resync, records }
}

/**
 * The chain record of an account of which the index holds nothing yet: neither an export nor live commits. The first
 * export of such an account need not remove anything.
 *
 * Undefined for any other account, when nothing is known of the account, and when the entry or the configuration asks
 * for removals. A first export without removals is wrong once a live commit was sent on. For example: live commit 1
 * creates a post and is sent on. Commit 2 deletes the post, and then the export is read, which does not have the post.
 * When commit 2 arrives after the export, the ingester takes it as already known, since the export is newer. Nothing
 * would ever remove the post.
 */
async function untouchedChain(
  { redis, alwaysResync }: AppendContext,
  { did, reason }: BackfillEvent,
): Promise<StoredChain | undefined> {
  if (alwaysResync || (reason !== undefined && reason !== 'listed')) return undefined
  const [chain] = await readChains(redis, [did])
  return chain && !chain.record.exported && chain.record.rev === '' ? chain : undefined
}

/**
 * A step that goes with the last chunk. When a live commit of the account was sent on since `chain` was read, the step
 * fails, and the chunk is not appended. If there are several chunks, the first has set `exported` (`beginExport`).
 */
function stillUntouched(did: string, chain: StoredChain, isOnlyChunk: boolean): Step {
  const record = { ...chain.record, exported: chain.record.exported || !isOnlyChunk }
  const from = isOnlyChunk ? chain : { record, bytes: encodeChain(record) }
  return moveChain(did, from, record)
}

function asOvertaken(error: unknown): never {
  if (!(error instanceof StateConflictError)) throw error
  throw refuse(
    'export-overtaken',
    'live commits of the account were sent on meanwhile, or Redis has lost a part of the export: it comes again, as a resync',
  )
}

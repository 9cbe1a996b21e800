/**
 * Makes the requests of `sluice backfill did`, `file`, `host` and `since`: for accounts named by their DIDs, for all
 * that a host lists, or for all that have committed since a time.
 */
import { readFileSync } from 'node:fs'
import { HttpClient } from '@sluice/atproto/http.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import { XrpcClient, type ListedRepo } from '@sluice/atproto/xrpc.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { priorityStream } from '@sluice/streams/backfill-queue.ts'
import { accountsSince } from '@sluice/streams/chain-state.ts'
import { CannotError } from './cli.ts'
import { count } from './output.ts'
import { QueueRoom, requestRepos, type Request } from './requests.ts'
import type { Session } from './session.ts'
import { requestsOfShard } from './shard.ts'

export interface QueueOptions {
  /** Queue behind the entries that wait already, without priority. */
  normal?: boolean
}

const streamOf = ({ settings }: Session, { normal = false }: QueueOptions): string =>
  normal ? settings.backfilled : priorityStream(settings.backfilled)

/**
 * Queues a fetch of these accounts, as fast as there is room for the requests.
 * @throws CannotError when one of them is no DID: then none is queued
 */
export async function requestDids(session: Session, dids: Iterable<string>, options: QueueOptions): Promise<void> {
  const { out, settings } = session
  const all = [...new Set(dids)]
  const wrong = all.find((did) => !isDid(did))
  if (wrong !== undefined) throw new CannotError(`${wrong} is no DID; nothing was queued`)
  const redis = await session.redis()
  const { own, others } = requestsOfShard(all.map((did) => ({ did })), settings.shard) // prettier-ignore
  const stream = streamOf(session, options)
  const queued = await requestRepos(redis, stream, own, new QueueRoom({ redis, stream, session }))
  const next = own[queued]?.did
  out.document({ queued, ofOtherShards: all.length - own.length, stream, ...(next !== undefined && { next }) })
  out.line(
    `${count(queued)} repositories queued${options.normal ? '' : ' before all others'}; sluice backfill status shows how far it is`,
  )
  if (next !== undefined)
    out.line(`stopped: ${count(own.length - queued)} were not queued, the first of them is ${next}`)
  if (others !== '') out.line(others)
}

/**
 * Reads a file with one DID a line; `#` begins a comment.
 * @param path `-` is the standard input
 */
export function linesOf(path: string): string[] {
  let text: string
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8')
  } catch (error) {
    throw new CannotError(`cannot read ${path}: ${(error as Error).message}`, { cause: error })
  }
  return text.split('\n').flatMap((line) => line.replace(/#.*/, '').trim() || [])
}

/**
 * Queues a fetch of every account whose newest commit, by what the ingester has read, is not older than `since`: those
 * of which an index that lacks what came after that time may lack something.
 */
export async function requestSince(session: Session, since: string, options: QueueOptions): Promise<void> {
  const { out, settings, signal } = session
  const redis = await session.redis()
  const stream = streamOf(session, options)
  const room = new QueueRoom({ redis, stream, session })
  const rev = tidFromMicros(Date.parse(since) * 1_000)
  let queued = 0
  for await (const dids of accountsSince(redis, rev)) {
    const requests = dids.map((did) => ({ did }))
    const { own } = requestsOfShard(requests, settings.shard)
    queued += await requestRepos(redis, stream, own, room)
    if (signal.aborted) break
  }
  out.document({ since, queued, stream, complete: !signal.aborted })
  out.line(
    `${count(queued)} repositories queued${options.normal ? '' : ' before all others'}; sluice backfill status shows how far it is`,
  )
  if (signal.aborted) out.line('stopped before all accounts were looked at: repeat it')
}

/** Queues a fetch of every account that the host lists as active, as fast as there is room for the requests. */
export async function requestHost(session: Session, host: string, options: QueueOptions): Promise<void> {
  const { out, settings, signal } = session
  const redis = await session.redis()
  const http = new HttpClient({ allowPrivate: settings.allowPrivate })
  const stream = streamOf(session, options)
  const room = new QueueRoom({ redis, stream, session })
  let [queued, ofOtherShards] = [0, 0]
  try {
    const url = /^https?:\/\//.test(host) ? host : `${settings.allowPrivate ? 'http' : 'https'}://${host}`
    if (!URL.canParse(url)) throw new CannotError(`${host} is no host: name one such as pds.example.com`)
    const name = new URL(url).host
    for await (const page of listHost(new XrpcClient(http), url, { signal })) {
      const active = page.filter((repo) => repo.active !== false && isDid(repo.did))
      const { own } = requestsOfShard(active.map(({ did }): Request => ({ did, host: name })), settings.shard) // prettier-ignore
      ofOtherShards += active.length - own.length
      queued += await requestRepos(redis, stream, own, room)
      if (signal.aborted) break
    }
  } finally {
    await http.close()
  }
  out.document({ host, queued, ofOtherShards })
  out.line(`${count(queued)} repositories of ${host} queued${options.normal ? '' : ' before all others'}`)
  if (ofOtherShards > 0)
    out.line(`${count(ofOtherShards)} more belong to other shards: run it with their environment too`)
}

/**
 * The most pages of one host: five million accounts, as in the ingester. Without a limit, a host that makes up cursors
 * would be listed, and its accounts queued, for ever.
 */
const HOST_PAGES = 5_000

/**
 * The pages of a host's listing.
 * @throws CannotError when the listing has no end; TransientError, RefusedError as the host answers
 */
export async function* listHost(
  xrpc: XrpcClient,
  url: string,
  { signal, pagesMax = HOST_PAGES }: { signal: AbortSignal; pagesMax?: number },
): AsyncGenerator<readonly ListedRepo[]> {
  let cursor: string | undefined
  for (let pages = 0; pages < pagesMax; pages++) {
    const page = await xrpc.listRepos(url, { limit: 1_000, ...(cursor !== undefined && { cursor }) }, { signal })
    yield page.items
    if (page.cursor === undefined || page.cursor === cursor) return
    cursor = page.cursor
  }
  throw new CannotError(
    `the listing of ${url} has no end after ${count(pagesMax)} pages; what it named until then is queued: sluice backfill cancel takes it back`,
  )
}

/**
 * A history seen from its repositories: what exists at any point of it, and exports taken there, in the chunks in which
 * a resync sends them. Written from the wire contract (packages/events/stream-event.ts), independently of the
 * backfiller.
 */
import {
  pathOf,
  SEQ_BACKFILL,
  uriOf,
  type CreateEvent,
  type RecordEvent,
  type RepoEvent,
  type StreamEvent,
  type UpdateEvent,
} from '@sluice/events/stream-event.ts'
import type { Random } from '@sluice/sandbox/random.ts'

type Written = CreateEvent | UpdateEvent

/** By path, what exists in one account's repository after these events, which are in their natural order. */
export function repositoryOf(events: readonly RecordEvent[], did: string): Map<string, Written> {
  const records = new Map<string, Written>()
  for (const event of events) {
    if (event.did !== did) continue
    if (event.type === 'delete') records.delete(pathOf(event))
    else records.set(pathOf(event), event)
  }
  return records
}

/**
 * Keeps of each post only its first version and its first deletion. An export does not tell when a post was edited or
 * written anew. So a reply in a gated thread that was edited is judged by what is known, and the verdict may differ.
 */
export function firstVersions(events: readonly RecordEvent[]): RecordEvent[] {
  const [written, gone] = [new Set<string>(), new Set<string>()]
  return events.filter((event) => {
    if (event.collection !== 'app.bsky.feed.post') return true
    const seen = event.type === 'delete' ? gone : written
    const isFirst = !seen.has(uriOf(event))
    seen.add(uriOf(event))
    return isFirst
  })
}

export interface ExportOptions {
  /** The history up to the moment of the export. */
  until: readonly RecordEvent[]
  did: string
  /** When the export is read. */
  time: string
  random: Random
  /** Records in a chunk, at most. */
  chunk?: number
}

/**
 * Makes the chunks of an export. Each chunk begins with a range and its keys, and has the records of the range. The
 * order of chunks does not matter.
 */
export function exportOf({ until, did, time, random, chunk = 12 }: ExportOptions): StreamEvent[][] {
  const head = until.findLast((event) => event.did === did)
  if (!head) return []
  const { commit, rev } = head
  const paths = [...repositoryOf(until, did)].sort(([a], [b]) => (a < b ? -1 : 1))
  const chunks: StreamEvent[][] = []
  let from = ''
  for (let at = 0; at < paths.length || chunks.length === 0;) {
    const part = paths.slice(at, (at += 1 + random.below(chunk)))
    const to = paths[at]?.[0] ?? ''
    const creates = part.map(([, { collection, rkey, cid, record }]): CreateEvent => {
      return { type: 'create', seq: SEQ_BACKFILL, time, did, commit, rev, collection, rkey, cid, record }
    })
    const range: RepoEvent = {
      type: 'repo',
      time,
      did,
      commit,
      rev,
      range: [from, to],
      keys: part.map(([path]) => path),
    }
    chunks.push([range, ...creates])
    from = to
  }
  return chunks
}

/**
 * Reads a batch of events: which accounts it concerns, which record versions it brings, which key ranges an export
 * covers. Pure.
 *
 * A record that fails its lexicon, or that its plugin refuses, counts as never written. It is counted by reason, and it
 * does not hide an earlier valid version, whatever the order of arrival. Other records of the same commit are not
 * affected.
 */
import { recordText } from '@sluice/events/codec.ts'
import {
  SEQ_BACKFILL,
  uriOf,
  type AccountEvent,
  type CreateEvent,
  type IdentityEvent,
  type RecordEvent,
  type RepoEvent,
  type StreamEvent,
  type UpdateEvent,
} from '@sluice/events/stream-event.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import { makeEntry } from './entry.ts'
import type { Content, Version } from './version.ts'

/** Why the indexer did not index a record. */
export const REFUSALS = ['invalid-record', 'wrong-owner', 'not-indexed'] as const
export type RefusalReason = (typeof REFUSALS)[number]

export interface Refused {
  uri: string
  reason: RefusalReason
  detail: string
}

/** What a batch says of one account's repository. */
export interface Head {
  did: string
  /**
   * The account's newest commit whose events are all in the stream. Absent if the batch brought only chunks of an
   * export.
   */
  commit?: string
  rev?: string
  /** The latest time of the account's events in this batch. */
  time: string
  /** The head of a resync: its export says which records exist at this rev. */
  resyncRev?: string
}

/** A key range of an export: of the record paths from `from` on and before `to`, exactly `keys` exist. */
export interface Range {
  did: string
  rev: string
  time: string
  from: string
  to: string
  keys: ReadonlySet<string>
}

export interface Prepared {
  /** Sorted by DID: the order in which the accounts are locked. */
  heads: Head[]
  versions: Version[]
  ranges: Range[]
  accounts: AccountEvent[]
  identities: IdentityEvent[]
  refused: Refused[]
}

/**
 * Reads the events of a batch; `heads` are sorted by DID. Never throws because of an event's content: records that are
 * not indexed are listed in `refused`.
 */
export function prepare(collections: CollectionSet, events: readonly StreamEvent[]): Prepared {
  const heads = new Map<string, Head>()
  const prepared: Prepared = { heads: [], versions: [], ranges: [], accounts: [], identities: [], refused: [] }
  for (const event of events) {
    const head = headOf(heads, event)
    switch (event.type) {
      case 'create':
      case 'update':
      case 'delete':
        if (event.seq !== SEQ_BACKFILL) advanceHead(head, event)
        prepareRecord(collections, event, prepared)
        break
      case 'repo':
        prepareRepo(head, event, prepared)
        break
      case 'account':
        prepared.accounts.push(event)
        break
      case 'identity':
        prepared.identities.push(event)
        break
    }
  }
  prepared.heads = inOrder(heads)
  return prepared
}

/** A batch of these ranges alone, as one part of the batch that brought them. */
export function prepareRanges(ranges: Range[]): Prepared {
  const heads = new Map<string, Head>()
  for (const range of ranges) raiseWatermark(headOf(heads, range), range)
  return { heads: inOrder(heads), versions: [], ranges, accounts: [], identities: [], refused: [] }
}

function inOrder(heads: ReadonlyMap<string, Head>): Head[] {
  return [...heads.values()].sort((a, b) => (a.did < b.did ? -1 : 1))
}

function headOf(heads: Map<string, Head>, event: { did: string; time: string }): Head {
  let head = heads.get(event.did)
  if (!head) heads.set(event.did, (head = { did: event.did, time: event.time }))
  if (event.time > head.time) head.time = event.time
  return head
}

function advanceHead(head: Head, { commit, rev }: { commit: string; rev: string }): void {
  if (head.rev !== undefined && head.rev >= rev) return
  head.rev = rev
  head.commit = commit
}

function raiseWatermark(head: Head, { rev }: { rev: string }): void {
  if (head.resyncRev === undefined || head.resyncRev < rev) head.resyncRev = rev
}

function prepareRepo(head: Head, event: RepoEvent, prepared: Prepared): void {
  if (!event.range || !event.keys) {
    advanceHead(head, event)
    return
  }
  raiseWatermark(head, event)
  const { did, rev, time, range, keys } = event
  prepared.ranges.push({ did, rev, time, from: range[0], to: range[1], keys: new Set(keys) })
}

function prepareRecord(collections: CollectionSet, event: RecordEvent, prepared: Prepared): void {
  const uri = uriOf(event)
  if (!collections.stores(event.collection)) {
    prepared.refused.push({ uri, reason: 'not-indexed', detail: event.collection })
    return
  }
  const { did, collection, rev, time } = event
  const version: Version = { uri, did, collection, rev, time, fromExport: event.seq === SEQ_BACKFILL }
  if (event.type !== 'delete') {
    const content = contentOf(collections, event, uri)
    if ('reason' in content) {
      prepared.refused.push({ uri, ...content })
      return
    }
    version.content = content
  }
  prepared.versions.push(version)
}

/**
 * The protocol allows URIs of 8,192 characters and DIDs of 2,048. A PostgreSQL index row has room for 2,704 bytes, and
 * some index rows hold two identifiers. No real record has such long ones. Whoever makes some up would cause a dead
 * letter for each, and in a first load, where indexes are built last, a row over which an index cannot be built.
 * Identifiers are ASCII: a text of flags that happens to begin with `did:` is none.
 */
const IDENTIFIER_CHARS = 1_000
const LONG_IDENTIFIER = new RegExp(`"(?:at://|did:)[!#-~]{${IDENTIFIER_CHARS},}"`)

function contentOf(
  collections: CollectionSet,
  event: CreateEvent | UpdateEvent,
  uri: string,
): Content | { reason: RefusalReason; detail: string } {
  const json = recordText(event)
  const violation = collections.validate(event.collection, event.record)
  if (violation !== undefined) return { reason: 'invalid-record', detail: violation }
  if (json.length > IDENTIFIER_CHARS && LONG_IDENTIFIER.test(json)) {
    return { reason: 'invalid-record', detail: `it names something by more than ${IDENTIFIER_CHARS} characters` }
  }
  const plugin = collections.plugin(event.collection)
  if (!plugin) return { cid: event.cid, json }
  const { did, rkey, cid, rev, record, time: indexedAt } = event
  const entry = makeEntry({ uri, did, rkey, cid, rev, record, json, indexedAt, live: event.seq !== SEQ_BACKFILL })
  const refusal = plugin.refuses(entry)
  if (refusal !== undefined) return refusal
  return { cid, json, indexed: { plugin, entry } }
}

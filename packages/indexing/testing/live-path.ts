/** Does everything once that an indexer does with its database, so that each of its statements is sent. */
import { tidFromMicros, tidMicros } from '@sluice/events/tid.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { LabelStreamEvent } from '@sluice/events/label-event.ts'
import {
  uriOf,
  type AccountEvent,
  type CreateEvent,
  type IdentityEvent,
  type RecordEvent,
  type StreamEvent,
} from '@sluice/events/stream-event.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { claimAccountChecks, failAccountCheck, giveBackAccountCheck, endAccountCheck } from '../account-checks.ts'
import { applyBatch, type Index } from '../apply-batch.ts'
import { applyLabels } from '../apply-labels.ts'
import {
  claimDeletions,
  DELETION_QUEUES,
  failDeletion,
  forgetDeletion,
  putOffDeletion,
  giveBackDeletion,
} from '../deletion-queue.ts'
import { claimHandleChecks, overdueHandleChecks, type HandleClaim } from '../handle-checks.ts'
import { endHandleChecks } from '../handles.ts'
import { urisOf } from '../ranges.ts'
import { KnownActors } from '../own.ts'
import { purgeAccount, reopenAccount } from '../purge.ts'
import {
  claimLater,
  giveBack,
  holdClaim,
  putOff,
  settleClaim,
  type LaterClaim,
  type LaterQueue,
} from '../settle-later.ts'
import { mention } from './embeds.ts'
import { exportOf } from './exports.ts'
import { cidOfText, Story } from './story.ts'

/** Later than all times in the events. */
const LATER = '2026-09-01T00:00:00.000Z'
const SECOND_LATER = '2026-09-01T00:00:01.000Z'
const TWO_LATER = '2026-09-01T00:00:02.000Z'
const MUCH_LATER = '2027-01-01T00:00:00.000Z'
const UNTIL = '2027-01-01T00:01:00.000Z'
const NEVER = new AbortController().signal

export interface Lived {
  /** The URL of the index's database: another connection keeps a transaction open there for some of the time. */
  url: string
  index: Index
  /** A history of several accounts, in its natural order. `before` has been applied already. */
  before: readonly RecordEvent[]
  events: readonly RecordEvent[]
}

/** Fills the index first: with the events, muted threads, and accounts in the queues. */
export async function beginLife(index: Index, events: readonly RecordEvent[]): Promise<void> {
  for (let at = 0; at < events.length; at += 20) await applyBatch(index, events.slice(at, at + 20))
  const [purged, back, away] = ['purged', 'back', 'away'].map((name) => new Story().did(name)) as [
    string,
    string,
    string,
  ]
  await tell(index, [purged, back, away], { active: false, status: 'deleted' })
  await tell(index, [back], { active: true })
  await purgeAccount(index, { did: purged, deletedAt: SECOND_LATER }, { signal: NEVER })
  await putOff(index.db, [{ uri: `at://${away}/app.bsky.feed.post/1`, since: '' }])
  await applyLabels(index.db, [label(away)])
  await muteThreads(index, events)
}

/**
 * Applies the events in order and out of order, resyncs, works off all queues, purges an account and takes the purge
 * back.
 */
export async function liveThrough(lived: Lived): Promise<void> {
  const { url, index, before, events } = lived
  const half = Math.ceil(events.length / 2)
  const leftOut = new Set(events.slice(half).filter((event, i) => event.type === 'create' && i % 8 === 0))
  await apply(index, events.slice(0, half))
  await besideAnother(url, async () => {
    // Some creates are left out: the exports bring them before they come themselves.
    const some = events.slice(half).filter((event) => !leftOut.has(event))
    const cramped = { ...index, room: { base: 1, each: 0, own: 1 } }
    await apply(cramped, new Random(1).shuffled(some))
    for (const part of inTheWrongOrder()) await apply(index, part)
    await apply(index, events.slice(half - 20, half))
  })
  await settleLater(index)
  const all = [...before, ...events]
  await resync(index, all)
  await apply(index, [...leftOut])
  await apply(index, [...saidAgain(all), ...deletedBeforeTheExport(all)])
  const dids = [...new Set(all.map(({ did }) => did))]
  await checkHandles(index, dids)
  await checkAccounts(index, dids)
  await purge(index, dids[0]!)
  await applyLabels(index.db, [label(dids[0]!)])
  await findDerivable(index, dids[1]!)
  await tellOfMuted(index)
}

/** Somebody who has muted a thread is told of a like of a post that nobody knows. */
async function tellOfMuted(index: Index): Promise<void> {
  const { rows } = await index.db.query<{ did: string }>('select "mutedByDid" as did from thread_mute limit 1')
  const subject = { uri: `at://${rows[0]!.did}/app.bsky.feed.post/3aaaaaaaaaaaa`, cid: cidOfText('nobody knows it') }
  await applyBatch(index, [new Story().put('eve', 'app.bsky.feed.like', { subject })])
}

/** Runs the statements that the end of a bulk load runs page by page. Here one account is a page. */
async function findDerivable({ db, collections }: Index, did: string): Promise<void> {
  for (const { derivable } of collections.plugins) if (derivable) await db.query(derivable, urisOf(did).slice(0, 2))
}

/** Applies a few events at a time, each time as an indexer that has just started and knows no account. */
async function apply(index: Index, events: readonly StreamEvent[]): Promise<void> {
  for (let at = 0; at < events.length; at += 10) {
    await applyBatch({ ...index, actors: new KnownActors() }, events.slice(at, at + 10))
  }
}

/** Acts while another transaction is open: settling then has to look for what that transaction may have written. */
async function besideAnother(url: string, act: () => Promise<void>): Promise<void> {
  await using other = new DatabasePool({ url, schema: 'bsky', size: 1, role: 'other' })
  await other.session(async (session) => {
    await session.query('begin')
    await session.query('select pg_current_xact_id()')
    await act()
    await session.query('rollback')
  })
}

/** Lets some accounts mute some threads. */
async function muteThreads({ db }: Index, events: readonly RecordEvent[]): Promise<void> {
  const roots = events.filter(({ type, collection }) => type === 'create' && collection === 'app.bsky.feed.post')
  const dids = [...new Set(events.map(({ did }) => did))].slice(1)
  await db.query(
    `insert into thread_mute ("rootUri", "mutedByDid", "createdAt") select uri, did, '' from unnest($1::text[]) as uri, unnest($2::text[]) as did on conflict do nothing`,
    [roots.slice(-20).map(uriOf), dids],
  )
}

/**
 * Three cases out of order. A reply arrives after the post that mentioned its author (which lets them in) was edited. A
 * quote arrives before the gate that forbids it. The last version of a verification arrives after its deletion.
 */
function inTheWrongOrder(): StreamEvent[][] {
  const story = new Story()
  const facets = [mention(story.did('bob'))]
  const root = story.post('ann', 'a post', { facets })
  const list = `at://${story.did('eve')}/app.bsky.graph.list/friends`
  const rules = [
    { $type: 'app.bsky.feed.threadgate#mentionRule' },
    { $type: 'app.bsky.feed.threadgate#listRule', list },
  ]
  const gate = story.put('ann', 'app.bsky.feed.threadgate', { post: uriOf(root), allow: rules }, root.rkey)
  const reply = story.reply('bob', root)
  const embeddingRules = [{ $type: 'app.bsky.feed.postgate#disableRule' }]
  const closed = story.put('ann', 'app.bsky.feed.postgate', { post: uriOf(root), embeddingRules }, root.rkey)
  const quote = story.quote('cat', root)
  const edited = story.put('ann', root.collection, { text: 'edited' }, root.rkey)
  const said = { handle: 'a.test', displayName: 'A' }
  const verify = (name: string, rkey?: string): CreateEvent =>
    story.put('ann', 'app.bsky.graph.verification', { ...said, subject: story.did(name) }, rkey)
  const first = verify('bob')
  const last = verify('cat', first.rkey)
  return [[root, gate, quote], [closed], [edited], [reply], [first], [story.delete(first)], [last]]
}

/** Settles what was put off: one record twice, because more of it was put off meanwhile. Gives another claim back. */
async function settleLater(index: Index): Promise<void> {
  const { db, collections } = index
  const claim = async (queue: LaterQueue): Promise<LaterClaim> => {
    const [taken] = await claimLater(db, { now: MUCH_LATER, until: UNTIL, limit: 1, queue })
    return taken!
  }
  const taken = await claim('first')
  await holdClaim(db, taken, UNTIL)
  await putOff(db, [{ uri: taken.uri, since: '' }])
  await settleClaim(db, collections, taken)
  await settleClaim(db, collections, await claim('again'))
  await giveBack(db, await claim('first'))
  await settleInParts(index)
}

/** Settles, part by part, what hangs on a follow and on a list item; and a thread that is longer than one walk. */
async function settleInParts(index: Index): Promise<void> {
  const { db, collections } = index
  const story = new Story()
  const line = [story.post('fay', 'root')]
  while (line.length < 7) line.push(story.reply('fay', line.at(-1)!))
  await applyBatch(index, line)
  const { rows } = await db.query<{ uri: string }>(
    `(select uri from follow order by uri desc limit 1) union all (select uri from list_item order by uri desc limit 1)`,
  )
  for (const { uri } of [...rows, { uri: uriOf(line[0]!) }])
    await settleClaim(db, collections, { uri, since: '', claim: UNTIL, tries: 1 }, { limits: { seen: 1 } })
}

/** And then what an older export had. */
async function resync(index: Index, until: readonly RecordEvent[]): Promise<void> {
  const random = new Random(2)
  for (const events of [until, until.slice(0, until.length / 2)]) {
    for (const did of new Set(events.map((event) => event.did))) {
      for (const chunk of exportOf({ until: events, did, time: LATER, random })) await applyBatch(index, chunk)
    }
  }
}

/** Some likes, written once more unchanged. */
function saidAgain(events: readonly RecordEvent[]): CreateEvent[] {
  const likes = living(events).slice(0, 5)
  return likes.map((event) => ({ ...event, type: 'create', rev: '3zzzzzzzzzzzz' }))
}

/** Deletions below the watermark, of records that the export has. */
function deletedBeforeTheExport(events: readonly RecordEvent[]): RecordEvent[] {
  const likes = living(events).slice(5)
  return likes.map(({ seq, time, did, commit, collection, rkey, rev }) => {
    return { type: 'delete', seq, time, did, commit, collection, rkey, rev: tidFromMicros(tidMicros(rev) + 1, 1) }
  })
}

function living(events: readonly RecordEvent[]): CreateEvent[] {
  const newest = new Map(events.map((event) => [uriOf(event), event]))
  return [...newest.values()].filter(
    (event): event is CreateEvent => event.type === 'create' && event.collection.endsWith('.like'),
  )
}

async function checkHandles(index: Index, dids: readonly string[]): Promise<void> {
  const identities = dids.map((did): IdentityEvent => ({ type: 'identity', seq: 1, time: LATER, did }))
  await applyBatch(index, identities)
  const shares = { new: 10, again: 10, failing: 10 }
  const verify = async (handleOf: (claim: HandleClaim) => string | null): Promise<void> => {
    const claims = await claimHandleChecks(index.db, { now: MUCH_LATER, until: UNTIL, shares })
    const next = { queue: 'again', dueAt: LATER, tries: 0 } as const
    await endHandleChecks(
      index.db,
      claims.map((claim) => ({ claim, handle: handleOf(claim), checkedAt: LATER, next })),
    )
  }
  await verify(({ did }) => `${did.slice(-5)}.test`)
  // All accounts but one lose their handle.
  await verify(() => `${dids[1]!.slice(-5)}.test`)
  await verify(() => null)
  await overdueHandleChecks(index.db, new Date(MUCH_LATER))
}

async function checkAccounts(index: Index, dids: readonly string[]): Promise<void> {
  await tell(index, dids.slice(0, 4), { active: false, status: 'takendown' })
  await tell(index, dids.slice(0, 4), { active: true })
  for (const queue of ['new', 'failing'] as const) {
    const claims = await claimAccountChecks(index.db, { now: MUCH_LATER, until: UNTIL, limit: 3, queue })
    for (const [i, claim] of claims.entries()) {
      if (queue === 'new' && i === 0) await failAccountCheck(index.db, claim, UNTIL)
      else if (queue === 'new' && i === 1) await giveBackAccountCheck(index.db, claim, UNTIL)
      else await endAccountCheck(index.db, claim, { active: false, status: 'suspended' }, Date.parse(MUCH_LATER))
    }
  }
}

function label(uri: string): LabelStreamEvent {
  return { type: 'label', seq: 1, label: { src: 'did:plc:labeler222222222222222222', uri, val: 'spam', cts: LATER } }
}

async function tell(index: Index, dids: readonly string[], says: Pick<AccountEvent, 'active' | 'status'>) {
  const time = says.active ? TWO_LATER : SECOND_LATER
  const events = dids.map((did): AccountEvent => ({ type: 'account', seq: 1, time, did, ...says }))
  await applyBatch(index, events)
}

async function purge(index: Index, did: string): Promise<void> {
  const { db } = index
  const told = (time: string, says: Pick<AccountEvent, 'active' | 'status'>): Promise<unknown> =>
    applyBatch(index, [{ type: 'account', seq: 1, time, did, ...says }])
  await told('2026-10-01T00:00:00.000Z', { active: false, status: 'deleted' })
  for (const queue of DELETION_QUEUES) await claimDeletions(db, { now: MUCH_LATER, until: UNTIL, limit: 2, queue })
  await putOffDeletion(db, did, UNTIL)
  await giveBackDeletion(db, did, UNTIL)
  await failDeletion(db, did, UNTIL)
  const deletion = { did, deletedAt: '2026-10-01T00:00:00.000Z' }
  await purgeAccount(index, deletion, { signal: NEVER, batchRecords: 10 })
  await told('2026-10-02T00:00:00.000Z', { active: true })
  await reopenAccount(db, deletion, NEVER)
  await forgetDeletion(db, did)
}

/**
 * A1, A2, C2: a purge leaves what would be if the account had deleted everything itself; nothing that is still queued
 * brings it back.
 */
import { tidFromMicros } from '@sluice/events/tid.ts'
import type { AccountEvent, DeleteEvent, RecordEvent, StreamEvent } from '@sluice/events/stream-event.ts'
import { SEQ_BACKFILL, uriOf } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { describe } from 'vitest'
import { applyBatch, type Index } from './apply-batch.ts'
import { claimDeletions, forgetDeletion, type DeletionClaim } from './deletion-queue.ts'
import { KnownActors } from './own.ts'
import { purgeAccount, reopenAccount } from './purge.ts'
import { indexOn } from './testing/index-on.ts'
import { abortedAtLook } from './testing/aborted.ts'
import { history } from './testing/history.ts'
import { differences, snapshot, type Snapshot } from './testing/snapshot.ts'
import { whileHeld } from './testing/while-held.ts'

const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2]
const EVENTS = Number(process.env.EVENTS ?? 250)
const signal = new AbortController().signal

async function apply(index: Index, events: readonly StreamEvent[], size = 30): Promise<void> {
  for (let at = 0; at < events.length; at += size) await applyBatch(index, events.slice(at, at + size))
}

function account(did: string, time: string, active: boolean, status?: string): AccountEvent {
  return { type: 'account', seq: 1, time, did, active, ...(status && { status }) }
}

/** The account's own deletions of all that it has, in one commit. */
function deletions(events: readonly RecordEvent[], did: string, time: string, rev: string): DeleteEvent[] {
  const uris = new Map<string, RecordEvent>()
  for (const event of events) if (event.did === did) uris.set(uriOf(event), event)
  const living = [...uris.values()].filter(({ type }) => type !== 'delete')
  return living.map(({ collection, rkey, commit }) => ({
    type: 'delete', seq: 1, time, did, commit, rev, collection, rkey,
  })) // prettier-ignore
}

/** Without what a purge takes and deletions do not: the account itself, what others told it, and what outlives records.
 * When a late version ended is not known any more, since the watermark stands for its tombstone: times are left out. */
async function othersOnly(index: Index, did: string): Promise<Snapshot> {
  const all = await snapshot(index.db, { withoutTimes: true })
  const isOf = (row: string): boolean => row.includes(`"did":"${did}"`) || row.includes(`"author":"${did}"`)
  return {
    ...all,
    actor: all.actor!.filter((r) => !isOf(r)),
    actor_sync: [],
    notification: all.notification!.filter((r) => !isOf(r)),
  }
}

/** What late events may write for an account that is gone: marks of deletions, and what is told to it. */
const STALE = ['tombstone', 'notification']

/** The tables that still have rows of the account. */
async function leftOf(index: Index, did: string): Promise<string[]> {
  const tables = {
    actor: 'did',
    record: 'did',
    tombstone: 'did',
    handle_check: 'did',
    post: 'creator',
    notification: 'did',
    '"like"': 'creator',
  }
  const counts = Object.entries(tables).map(async ([table, column]) => {
    const { rowCount } = await index.db.query(`select from ${table} where ${column} = $1 limit 1`, [did])
    return rowCount! > 0 ? [table] : []
  })
  return (await Promise.all(counts)).flat()
}

describe.each(SEEDS)('seed %i', (seed) => {
  const events = history({ seed, events: EVENTS })
  const did = events[0]!.did
  const deletedAt = new Date(Date.parse(events.at(-1)!.time) + 1_000).toISOString()
  const rev = tidFromMicros(Date.parse(deletedAt) * 1000, 1023)

  test('A2 everything goes, counters and notifications of others follow, and nothing late brings it back', async ({
    database,
    otherDatabase,
  }) => {
    await using expected = indexOn(database)
    const gone = deletions(events, did, deletedAt, rev)
    expect(gone.length).toBeGreaterThan(5)
    await apply(expected, [...events, ...gone])
    const wanted = await othersOnly(expected, did)

    const random = new Random(seed)
    await using index = indexOn(otherDatabase)
    // Some of its events come only after the purge, and all of them come again.
    const late = events.filter((event) => event.did === did && random.chance(0.3))
    await apply(index, random.shuffled(events.filter((event) => !late.includes(event))))
    await apply(index, [account(did, deletedAt, false, 'deleted')])
    const [claim] = await claimDeletions(index.db, { now: '9', until: '9', limit: 10 })
    expect(claim).toMatchObject({ did, state: 'reported', deletedAt })
    expect(await purgeAccount(index, claim!, { signal, batchRecords: 7 })).toBe(true)
    expect(await leftOf(index, did)).toEqual([])
    await apply(index, random.shuffled([...late, ...events, account(did, deletedAt, false, 'deleted')]))
    expect(differences(wanted, await othersOnly(index, did))).toEqual([])
    expect((await leftOf(index, did)).filter((table) => !STALE.includes(table))).toEqual([])
    expect(await claimDeletions(index.db, { now: '9', until: '9', limit: 10 })).toEqual([])
  })

  test('A2 a purge that is interrupted anywhere is finished by another', async ({ database, otherDatabase }) => {
    await using expected = indexOn(database)
    await apply(expected, [...events, ...deletions(events, did, deletedAt, rev)])
    await using index = indexOn(otherDatabase)
    await apply(index, [...events, account(did, deletedAt, false, 'deleted')])
    let interruptions = 0
    for (let allowed = 1; ; allowed++) {
      const [claim] = await claimDeletions(index.db, { now: '9', until: '9', limit: 10 })
      if (!claim) break
      try {
        await purgeAccount(index, claim, { signal: abortedAtLook(allowed), batchRecords: 3 })
      } catch {
        interruptions++
      }
    }
    expect(interruptions).toBeGreaterThan(3)
    expect(differences(await othersOnly(expected, did), await othersOnly(index, did))).toEqual([])
  })

  test('A2 an account that comes back during its purge, or after it, has its repository again', async ({
    database,
    otherDatabase,
  }) => {
    await using expected = indexOn(database)
    await apply(expected, events)
    const wanted = await othersOnly(expected, did)
    await using index = indexOn(otherDatabase)
    await apply(index, [...events, account(did, deletedAt, false, 'deleted')])
    const [claim] = await claimDeletions(index.db, { now: '9', until: '99', limit: 10 })
    await expect(purgeAccount(index, claim!, { signal: abortedAtLook(2), batchRecords: 3 })).rejects.toThrow()
    const backAt = new Date(Date.parse(deletedAt) + 1_000).toISOString()
    await apply(index, [account(did, backAt, true)])
    expect(await purgeAccount(index, claim!, { signal })).toBe(false)
    const [back] = await claimDeletions(index.db, { now: '99', until: '99', limit: 10 })
    expect(back).toMatchObject({ did, state: 'returned' })
    await reopenAccount(index.db, back!, signal)
    await forgetDeletion(index.db, did)
    await apply(index, events)
    const found = await othersOnly(index, did)
    expect(differences(wanted, found)).toEqual([])
    const { rows } = await index.db.query('select "upstreamStatus" from actor where did = $1', [did])
    expect(rows).toEqual([{ upstreamStatus: null }])
  })
})

describe('the order of account events', () => {
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  const at = (second: number): string => `2026-06-01T00:00:0${second}.000Z`
  const life: AccountEvent[] = [
    account(did, at(1), false, 'deactivated'),
    account(did, at(2), true),
    account(did, at(3), false, 'from-the-future'),
    account(did, at(4), true, 'desynchronized'),
    account(did, at(5), true, 'throttled'),
    account(did, at(6), false, 'suspended'),
    account(did, at(6), true),
  ]

  test('A1 the latest by the clock of the PDS counts, whatever the order, unknown statuses included', async ({
    database,
  }) => {
    await using index = indexOn(database)
    const random = new Random(5)
    for (let round = 1; round <= life.length; round++) {
      const known = life.slice(0, round)
      const last = known.findLast((event) => event.time === known.at(-1)!.time && !event.active) ?? known.at(-1)!
      await index.db.query('delete from actor')
      await index.db.query('delete from actor_sync')
      index.actors.forget(did)
      for (const event of random.shuffled([...known, ...known])) await applyBatch(index, [event])
      const { rows } = await index.db.query('select "upstreamStatus", "takedownRef" from actor where did = $1', [did])
      expect(rows).toEqual([{ upstreamStatus: last.active ? null : last.status, takedownRef: null }])
    }
  })

  test('A1 a takedown of the AppView is not touched by what upstream says', async ({ database }) => {
    await using index = indexOn(database)
    await applyBatch(index, [life[0]!])
    await index.db.query(`update actor set "takedownRef" = 'ours'`)
    await applyBatch(index, [life[1]!, life[5]!])
    const { rows } = await index.db.query('select "upstreamStatus", "takedownRef" from actor where did = $1', [did])
    expect(rows).toEqual([{ upstreamStatus: 'suspended', takedownRef: 'ours' }])
  })
})

test('A1, A2 a purge keeps a takedown of the AppView: who comes back by a host of its own is still taken down', async ({
  database,
}) => {
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  await using index = indexOn(database)
  const actor = async (): Promise<unknown[]> =>
    (await index.db.query('select handle, "upstreamStatus", "takedownRef" from actor where did = $1', [did])).rows
  await applyBatch(index, [account(did, '2026-06-01T00:00:01.000Z', true)])
  await index.db.query(`update actor set handle = 'ann.test', "takedownRef" = 'ours'`)
  await applyBatch(index, [account(did, '2026-06-01T00:00:02.000Z', false, 'deleted')])
  const [claim] = await claimDeletions(index.db, { now: '9', until: '9', limit: 1 })
  expect(await purgeAccount(index, claim!, { signal })).toBe(true)
  expect(await actor()).toEqual([{ handle: null, upstreamStatus: 'deleted', takedownRef: 'ours' }])
  await applyBatch(index, [account(did, '2026-06-01T00:00:03.000Z', true)])
  expect(await actor()).toEqual([{ handle: null, upstreamStatus: null, takedownRef: 'ours' }])
})

describe('whatever time a deletion claims', () => {
  const events = history({ seed: 4, events: 60 })
  const { did } = events[0]!
  const own = events.filter((event) => event.did === did)
  const last = own.at(-1)!
  const before = (ms: number): string => new Date(Date.parse(last.time) - ms).toISOString()
  const CLAIMED = ['1970-01-01T00:00:00.000Z', before(1_000), before(0), before(-1_000), '9999-12-31T23:59:59.999Z']

  async function claim(index: Index): Promise<DeletionClaim> {
    const [claimed] = await claimDeletions(index.db, { now: '9', until: '9', limit: 1 })
    return claimed!
  }

  test.for(CLAIMED)('A2 %s: the purge ends, with nothing left', async (deletedAt, { database }) => {
    await using index = indexOn(database)
    await apply(index, [...events, account(did, deletedAt, false, 'deleted')])
    expect(await purgeAccount(index, await claim(index), { signal: abortedAtLook(LOOKS), batchRecords: 3 })).toBe(true)
    expect(await leftOf(index, did)).toEqual([])
  })

  test.for(CLAIMED)(
    'A2 %s: back halfway with the head of before, it has all of its records',
    async (deletedAt, { database, otherDatabase }) => {
      await using expected = indexOn(otherDatabase)
      await apply(expected, events)
      await using index = indexOn(database)
      await apply(index, [...events, account(did, deletedAt, false, 'deleted')])
      const claimed = await claim(index)
      for (const looks of [2, 3]) {
        const purge = purgeAccount(index, claimed, { signal: abortedAtLook(looks), batchRecords: 3 })
        await expect(purge).rejects.toThrow()
      }
      const gone = (await recordsOf(expected, did)).length - (await recordsOf(index, did)).length
      expect(gone).toBeGreaterThan(3)
      // A deletion may claim the last moment there is: nothing is later by this clock, and the host is believed all the
      // same.
      await index.db.query(`update account_deletion set state = 'returned'`)
      await reopenAccount(index.db, await claim(index), signal)
      await forgetDeletion(index.db, did)
      await apply(index, exportOf(own))
      expect(await recordsOf(index, did)).toEqual(await recordsOf(expected, did))
    },
  )

  test('A2 what comes in behind a purge is no end of it, and none of it is left', async ({ database }) => {
    await using index = indexOn(database)
    await apply(index, [...events, account(did, before(0), false, 'deleted')])
    const claimed = await claim(index)
    await expect(purgeAccount(index, claimed, { signal: abortedAtLook(2) })).rejects.toThrow()
    const { rows } = await index.db.query<{ rev: string }>('select "resyncRev" as rev from actor_sync where did = $1', [
      did,
    ])
    const { commit, time } = last
    const record = { $type: 'app.bsky.feed.post', text: 'still here', createdAt: time }
    const post: StreamEvent = {
      type: 'create', seq: SEQ_BACKFILL, time, did, commit, rev: rows[0]!.rev, collection: record.$type, rkey: 'behind', cid: commit, record,
    } // prettier-ignore
    await applyBatch(index, [post])
    expect(await recordsOf(index, did)).toContain(uriOf(post))
    expect(await purgeAccount(index, claimed, { signal: abortedAtLook(LOOKS) })).toBe(false)
    expect(await purgeAccount(index, await claim(index), { signal: abortedAtLook(LOOKS) })).toBe(true)
    expect(await leftOf(index, did)).toEqual([])
  })
})

test.for(['by its bytes', 'as in a language'])(
  'A2 what an account has told others goes with it, and nothing of its neighbours: text sorts %s',
  async (order, { database }) => {
    await using index = indexOn(database)
    if (order !== 'by its bytes') {
      await index.db.query('alter table label alter column val type varchar collate "und-x-icu"')
    }
    const did = 'did:web:a.example'
    const neighbours = ['did:web:a', 'did:web:a.example-b', 'did:web:a.example.net', 'did:web:a.example0']
    await index.db.query(
      `insert into notification (did, "recordUri", "recordCid", author, reason, "sortAt")
       select 'did:web:b', 'at://' || author || '/app.bsky.graph.verification/one', 'bafy', author, 'unverified', '2026'
       from unnest($1::text[]) as author`,
      [[did, ...neighbours]],
    )
    await applyBatch(index, [account(did, '2026-01-02T00:00:00.000Z', false, 'deleted')])
    const [claim] = await claimDeletions(index.db, { now: '9', until: '9', limit: 1 })
    expect(await purgeAccount(index, claim!, { signal })).toBe(true)
    const { rows } = await index.db.query<{ author: string }>('select author from notification')
    expect(rows.map(({ author }) => author).sort()).toEqual(neighbours)
  },
)

/** A purge of so few records looks at its signal less often than this, unless it has no end. */
const LOOKS = 200

async function recordsOf(index: Index, did: string): Promise<string[]> {
  const { rows } = await index.db.query<{ uri: string }>('select uri from record where did = $1 order by uri', [did])
  return rows.map(({ uri }) => uri)
}

/** What a resync sends of a repository that nobody has touched since. */
function exportOf(own: readonly RecordEvent[]): StreamEvent[] {
  const { did, rev, commit, time } = own.at(-1)!
  const newest = new Map(own.map((event) => [`${event.collection}/${event.rkey}`, event]))
  const living = [...newest].filter(([, { type }]) => type !== 'delete')
  const records = living.map(([, event]) => ({ ...event, seq: SEQ_BACKFILL, rev }))
  return [...records, { type: 'repo', time, did, commit, rev, range: ['', ''], keys: living.map(([key]) => key) }]
}

test('A2, C3: a late event that arrives while a purge ends does not bring the account back', async ({ database }) => {
  await using index = indexOn(database)
  const did = 'did:plc:aaaaaaaaaaaaaaaaaaaaaaaa'
  const late: StreamEvent = { type: 'identity', seq: 1, time: '2026-01-01T00:00:00.000Z', did }
  await applyBatch(index, [late])
  await applyBatch(index, [account(did, '2026-01-02T00:00:00.000Z', false, 'deleted')])
  const now = new Date().toISOString()
  const [claim] = await claimDeletions(index.db, { now, until: now, limit: 1 })
  // The last statement of the purge waits for this row, when the account is gone already and nobody can see it yet.
  await whileHeld(index, ['select from handle_check where did = $1 for update', did], async (waiting) => {
    const purge = purgeAccount(index, claim!, { signal })
    await waiting(1)
    const batch = applyBatch({ ...index, actors: new KnownActors() }, [late])
    await waiting(2)
    return [expect(purge).resolves.toBe(true), batch]
  })
  expect(await leftOf(index, did)).toEqual([])
})

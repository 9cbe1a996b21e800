/**
 * A4: one handle belongs to one actor; the queue is fair, durable and shared; an identity event is never lost to a
 * check that was under way.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { AccountEvent, IdentityEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { claimHandleChecks, type HandleCheck, type HandleClaim } from './handle-checks.ts'
import { endHandleChecks } from './handles.ts'
import { KnownActors } from './own.ts'

const NOW = '9000'
const LATER = '9999'
const ALL = { new: 100, again: 100, failing: 100 }

function did(n: number): string {
  return `did:plc:${String.fromCharCode(97 + n).repeat(24)}`
}

function event(n: number, second = 1): IdentityEvent {
  return { type: 'identity', seq: 1, time: `2026-06-01T00:00:0${second}.000Z`, did: did(n) }
}

/** @param status why it is hidden; undefined: it is not */
function account(n: number, second: number, status?: string): AccountEvent {
  const active = status === undefined
  return {
    type: 'account',
    seq: 1,
    time: `2026-06-01T00:00:0${second}.000Z`,
    did: did(n),
    active,
    ...(status && { status }),
  }
}

async function indexWith(url: string, actors: number): Promise<Index & AsyncDisposable> {
  const db = new DatabasePool({ url, schema: 'bsky', size: 4, role: 'test' })
  const index = { db, collections: new CollectionSet(collections), actors: new KnownActors() }
  await applyBatch(
    index,
    Array.from({ length: actors }, (_, n) => event(n)),
  )
  return { ...index, [Symbol.asyncDispose]: () => db.close() }
}

async function claimAll(index: Index, until = '8000'): Promise<HandleClaim[]> {
  const claims = await claimHandleChecks(index.db, { now: NOW, until, shares: ALL })
  return claims.sort((a, b) => (a.did < b.did ? -1 : 1))
}

function found(
  claim: HandleClaim,
  handle: string | null | undefined,
  checkedAt = '2026-06-02T00:00:00.000Z',
): HandleCheck {
  return { claim, checkedAt, next: { queue: 'again', dueAt: LATER, tries: 0 }, ...(handle !== undefined && { handle }) }
}

/** None, and so checked again far later. */
function failed(claim: HandleClaim): HandleCheck {
  return { ...found(claim, null), next: { queue: 'failing', dueAt: LATER, tries: claim.tries + 1 } }
}

async function handles(index: Index): Promise<(string | null)[]> {
  const { rows } = await index.db.query<{ handle: string | null }>('select handle from actor order by did')
  return rows.map(({ handle }) => handle)
}

test('two actors that swap handles have each other’s; a third that is verified for one takes it', async ({
  database,
}) => {
  await using index = await indexWith(database, 3)
  const [a, b, c] = await claimAll(index)
  await endHandleChecks(index.db, [found(a!, 'a.test'), found(b!, 'b.test'), found(c!, null)])
  expect(await handles(index)).toEqual(['a.test', 'b.test', null])

  await applyBatch(index, [event(0, 2), event(1, 2)])
  const swap = await claimAll(index, '8001')
  expect(swap.map((claim) => claim.did)).toEqual([did(0), did(1)])
  await endHandleChecks(index.db, [found(swap[0]!, 'b.test'), found(swap[1]!, 'a.test')])
  expect(await handles(index)).toEqual(['b.test', 'a.test', null])

  await applyBatch(index, [event(2, 3)])
  const [third] = await claimAll(index, '8002')
  expect(await endHandleChecks(index.db, [found(third!, 'a.test')])).toEqual({ changed: 2, dispossessed: 1, void: 0 })
  expect(await handles(index)).toEqual(['b.test', null, 'a.test'])
  // Who lost it is looked at again.
  const { rows } = await index.db.query('select did, tries from handle_check where queue = $1', ['failing'])
  expect(rows).toEqual([{ did: did(1), tries: 1 }])
})

/** How long whoever lost its handle waits, in seconds, and among whom. */
async function waitOf(index: Index, who: string): Promise<{ queue: string; seconds: number }> {
  const { rows } = await index.db.query<{ queue: string; dueAt: string }>(
    'select queue, "dueAt" from handle_check where did = $1',
    [who],
  )
  return { queue: rows[0]!.queue, seconds: (Date.parse(rows[0]!.dueAt) - Date.now()) / 1000 }
}

test('two that take one handle from each other, over and over, wait ever longer for it', async ({ database }) => {
  await using index = await indexWith(database, 2)
  const waits: number[] = []
  for (let turn = 0; turn < 10; turn++) {
    const [claim] = (await claimAll(index, `80${10 + turn}`)).filter((each) => each.did === did(turn % 2))
    await endHandleChecks(index.db, [found(claim!, 'x.test')])
    if (turn === 0) continue
    const { queue, seconds } = await waitOf(index, did((turn + 1) % 2))
    expect(queue).toBe('failing')
    waits.push(seconds)
  }
  expect(waits.at(-1)).toBeGreaterThan(8 * waits[0]!)
  expect(await handles(index)).toEqual([null, 'x.test'])
  // Who is verified with nobody else in the way begins anew.
  await index.db.query(`update handle_check set "dueAt" = '1' where did = $1`, [did(1)])
  const [claim] = await claimHandleChecks(index.db, { now: '2', until: '8050', shares: ALL })
  expect(claim!.tries).toBeGreaterThan(0)
  await endHandleChecks(index.db, [found(claim!, 'x.test')])
  const { rows } = await index.db.query('select queue, tries from handle_check where did = $1', [did(1)])
  expect(rows).toEqual([{ queue: 'again', tries: 0 }])
})

test('two that are verified for one handle in one breath, over and over, wait ever longer too', async ({
  database,
}) => {
  await using index = await indexWith(database, 2)
  for (let turn = 0; turn < 5; turn++) {
    await index.db.query(`update handle_check set "dueAt" = '1'`)
    const checks = (await claimAll(index, `80${10 + turn}`)).map((claim, i) =>
      found(claim, 'x.test', `2026-06-02T00:00:0${i}.000Z`),
    )
    expect(checks).toHaveLength(2)
    await endHandleChecks(index.db, checks)
  }
  const { rows } = await index.db.query('select queue, tries from handle_check order by did')
  expect(rows).toEqual([{ queue: 'failing', tries: 5 }, { queue: 'again', tries: 0 }]) // prettier-ignore
})

test('of two that are verified for one handle in one breath the later check counts', async ({ database }) => {
  await using index = await indexWith(database, 2)
  const [a, b] = await claimAll(index)
  await endHandleChecks(index.db, [
    found(a!, 'x.test', '2026-06-02T00:00:02.000Z'),
    found(b!, 'x.test', '2026-06-02T00:00:01.000Z'),
  ])
  expect(await handles(index)).toEqual(['x.test', null])
})

test('whoever is visible again is looked at at once, and what was found out before counts for nothing', async ({
  database,
}) => {
  await using index = await indexWith(database, 2)
  const [a, b] = await claimAll(index)
  await endHandleChecks(index.db, [failed(a!), found(b!, 'b.test')])
  await applyBatch(
    index,
    [0, 1].map((n) => account(n, 2, 'takendown')),
  )
  expect(await claimAll(index, '8001')).toEqual([])

  await applyBatch(
    index,
    [0, 1].map((n) => account(n, 3)),
  )
  const again = await claimAll(index, '8002')
  expect(again).toMatchObject([
    { did: did(0), queue: 'failing', tries: 1 },
    { did: did(1), queue: 'again', tries: 0 },
  ])

  // While these are asked about: what a host says of who is away.
  await applyBatch(index, [account(0, 4, 'deactivated'), account(1, 4, 'deactivated')])
  await applyBatch(index, [account(0, 5), account(1, 5)])
  expect(await endHandleChecks(index.db, [failed(again[0]!), found(again[1]!, null)])).toMatchObject({ void: 2 })
  const last = await claimAll(index, '8003')
  await endHandleChecks(index.db, [found(last[0]!, 'a.test'), found(last[1]!, 'b.test')])
  expect(await handles(index)).toEqual(['a.test', 'b.test'])
})

test('what could not be checked keeps its handle; what has none loses it', async ({ database }) => {
  await using index = await indexWith(database, 2)
  const first = await claimAll(index)
  await endHandleChecks(index.db, [found(first[0]!, 'a.test'), found(first[1]!, 'b.test')])
  await applyBatch(index, [event(0, 2), event(1, 2)])
  const second = await claimAll(index, '8001')
  await endHandleChecks(index.db, [found(second[0]!, undefined), found(second[1]!, null)])
  expect(await handles(index)).toEqual(['a.test', null])
})

test('an identity event during a check makes it void; one that comes again asks for nothing', async ({ database }) => {
  await using index = await indexWith(database, 1)
  const [before] = await claimAll(index)
  await applyBatch(index, [event(0, 2)])
  expect(await endHandleChecks(index.db, [found(before!, 'old.test')])).toEqual({
    changed: 0,
    dispossessed: 0,
    void: 1,
  })
  const [after] = await claimAll(index, '8001')
  expect(after).toMatchObject({ did: did(0), queue: 'new', askedAt: event(0, 2).time })
  await endHandleChecks(index.db, [found(after!, 'new.test')])
  await applyBatch(index, [event(0, 2), event(0, 1)])
  expect(await claimAll(index, '8002')).toEqual([])
  expect(await handles(index)).toEqual(['new.test'])
  const { rows } = await index.db.query('select "indexedAt" from actor')
  expect(rows).toEqual([{ indexedAt: event(0, 2).time }])
})

test('a claim whose holder died ends, and the account is due again; until then nobody else gets it', async ({
  database,
}) => {
  await using index = await indexWith(database, 3)
  expect(await claimAll(index, '8000')).toHaveLength(3)
  expect(await claimHandleChecks(index.db, { now: '7999', until: '8001', shares: ALL })).toEqual([])
  expect(await claimHandleChecks(index.db, { now: '8000', until: '8001', shares: ALL })).toHaveLength(3)
})

test('failing accounts, however many and overdue, leave new ones their places', async ({ database }) => {
  await using index = await indexWith(database, 20)
  const claims = await claimAll(index)
  await endHandleChecks(
    index.db,
    claims.slice(0, 18).map((claim) => ({
      claim,
      checkedAt: NOW,
      next: { queue: 'failing' as const, dueAt: '0', tries: 3 },
    })),
  )
  await index.db.query(`update handle_check set "dueAt" = '1' where queue = 'new'`)
  const taken = await claimHandleChecks(index.db, { now: NOW, until: LATER, shares: { new: 5, again: 5, failing: 1 } })
  expect(taken.map(({ queue }) => queue)).toEqual(['new', 'new', 'failing'])
})

test('many writers, swaps and contentions at once neither deadlock nor leave a handle twice', async ({ database }) => {
  await using index = await indexWith(database, 12)
  const random = new Random(7)
  const names = ['p.test', 'q.test', 'r.test', 's.test']
  for (let round = 2; round < 8; round++) {
    await applyBatch(
      index,
      Array.from({ length: 12 }, (_, n) => event(n, round)),
    )
    const claims = random.shuffled(await claimAll(index, `800${round}`))
    await Promise.all(
      [0, 1, 2].map((lane) =>
        endHandleChecks(
          index.db,
          claims.filter((_, i) => i % 3 === lane).map((claim) => found(claim, random.pick(names))),
        ),
      ),
    )
    const held = (await handles(index)).filter((handle) => handle !== null)
    expect(held.length).toBeGreaterThan(0)
    expect(new Set(held).size).toBe(held.length)
  }
})

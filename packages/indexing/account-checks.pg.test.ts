/**
 * A1, A3: whose clock is right does not matter. What is said of an account and differs is asked about, and what its
 * host answers stands until more is said.
 */
import { testDid } from '@sluice/atproto/testing/world.ts'
import { SEQ_BACKFILL, type AccountEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Random } from '@sluice/sandbox/random.ts'
import {
  claimAccountChecks,
  failAccountCheck,
  overdueAccountChecks,
  giveBackAccountCheck,
  endAccountCheck,
  type AccountClaim,
  type AccountQueue,
} from './account-checks.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { indexOn } from './testing/index-on.ts'
import { rowsRead } from './testing/rows-read.ts'

const SEEDS = process.env.SEEDS ? process.env.SEEDS.split(',').map(Number) : [1, 2, 3, 4, 5, 6]
const LIVES = 15
const STEPS = Number(process.env.EVENTS ?? 30)
const did = testDid('asked about')
const T0 = Date.UTC(2026, 0, 1)
const MINUTES = 60_000
/** By how much the host's clock may be wrong. */
const SKEWS_MS = [-24 * 60 * MINUTES, -3 * MINUTES, -500, 0, 3 * MINUTES]
/** Behind every time that the engine writes. */
const EVER = '9'

type Status = string | undefined

function said(ms: number, status: Status, seq = 1): AccountEvent {
  const time = new Date(ms).toISOString()
  return { type: 'account', seq, time, did, active: status === undefined, ...(status !== undefined && { status }) }
}

/** What we have found out ourselves. */
const found = (ms: number, status: Status): AccountEvent => said(ms, status, SEQ_BACKFILL)

let claims = 0
async function claim({ db }: Index, queue: AccountQueue = 'new'): Promise<AccountClaim | undefined> {
  const [taken] = await claimAccountChecks(db, { now: EVER, until: `${EVER} ${++claims}`, limit: 1, queue })
  return taken
}

async function answer({ db }: Index, taken: AccountClaim, status: Status, askedAtMs: number) {
  const words = { active: status === undefined, ...(status !== undefined && { status }) }
  return await endAccountCheck(db, taken, words, askedAtMs)
}

async function held({ db }: Index): Promise<Status> {
  const { rows } = await db.query<{ status: string | null }>(
    'select "upstreamStatus" as status from actor where did = $1',
    [did],
  )
  return rows[0]?.status ?? undefined
}

async function isAsked({ db }: Index): Promise<boolean> {
  return (await db.query(`select from account_check where did = $1 and state <> 'asked'`, [did])).rowCount === 1
}

test.for<[string, AccountEvent[][]]>([
  ['what a slow clock dates before what we found', [[found(T0, 'deactivated')], [said(T0 - 3 * MINUTES, undefined)]]],
  ['the same, when what we found arrives last', [[said(T0 - 3 * MINUTES, undefined)], [found(T0, 'deactivated')]]],
  ['the same, in one batch', [[found(T0, 'deactivated'), said(T0 - 3 * MINUTES, undefined)]]],
  ['what hides, by a slow clock', [[found(T0, undefined)], [said(T0 - 3 * MINUTES, 'takendown')]]],
  ['two things at one time', [[said(T0, 'deactivated')], [said(T0, undefined)]]],
  ['why it is hidden', [[found(T0, 'deactivated')], [said(T0 - 3 * MINUTES, 'suspended')]]],
  ['an ordinary change', [[said(T0, undefined)], [said(T0 + 1, 'deactivated')]]],
])('A3 the host is asked about %s', async ([, batches], { database }) => {
  await using index = indexOn(database)
  for (const batch of batches) await applyBatch(index, batch)
  expect(await isAsked(index)).toBe(true)
})

test('A1 the first news of an account, and what is held already, ask nobody', async ({ database }) => {
  await using index = indexOn(database)
  const first = found(T0, 'deactivated')
  await applyBatch(index, [first])
  await applyBatch(index, [first])
  await applyBatch(index, [said(T0 - 3 * MINUTES, 'deactivated'), said(T0 + 3 * MINUTES, 'deactivated')])
  expect(await isAsked(index)).toBe(false)
})

test('A3 the answer stands, though what was held is dated after it, and comes again', async ({ database }) => {
  await using index = indexOn(database)
  const ahead = found(T0 + 60 * MINUTES, 'deactivated')
  await applyBatch(index, [ahead])
  await applyBatch(index, [said(T0, undefined)])
  expect(await held(index)).toBe('deactivated')
  expect(await answer(index, (await claim(index))!, undefined, T0)).toBe('differs')
  expect([await held(index), await isAsked(index)]).toEqual([undefined, false])
  await applyBatch(index, [ahead])
  expect(await held(index)).toBe(undefined)
})

test('A3 an answer is not written when more was said after the question, even if that is as held', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(index, [found(T0, 'deactivated')])
  await applyBatch(index, [said(T0 - 3 * MINUTES, undefined)])
  const before = (await claim(index))!
  await applyBatch(index, [said(T0 - 2 * MINUTES, 'deactivated')])
  expect(await answer(index, before, undefined, T0)).toBe('overtaken')
  expect([await held(index), await isAsked(index)]).toEqual(['deactivated', true])
})

test('A3 whose host gives no answer is asked about later, among others of that kind, or when more is said', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(index, [said(T0, undefined), said(T0 + 1, 'deactivated')])
  await failAccountCheck(index.db, (await claim(index))!, `${EVER}9`)
  expect([await claim(index), await claim(index, 'failing')]).toEqual([undefined, undefined])
  await applyBatch(index, [said(T0 + 2, undefined)])
  expect(await claim(index, 'failing')).toMatchObject({ did, tries: 2 })
})

test('A3 of whom nobody was asked is due again as what it was, and that counts as no question', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(index, [said(T0, undefined), said(T0 + 1, 'deactivated')])
  const due = async (queue: AccountQueue) => (await claim(index, queue)) ?? expect.fail(`nothing is ${queue}`)
  for (let i = 0; i < 3; i++) await giveBackAccountCheck(index.db, await due('new'), '')
  await failAccountCheck(index.db, await due('new'), '')
  const failing = await due('failing')
  expect(failing.tries).toBe(2)
  await giveBackAccountCheck(index.db, failing, '')
  expect(await claim(index)).toBe(undefined)
  const taken = await due('failing')
  expect(taken.tries).toBe(2)
  // More is said: the claim has ended, and what follows from it is no affair of whoever held it.
  await applyBatch(index, [said(T0 + 2, undefined)])
  const { rows: before } = await index.db.query('select * from account_check')
  await giveBackAccountCheck(index.db, taken, '')
  expect((await index.db.query('select * from account_check')).rows).toEqual(before)
})

test('A3 who changes without end is asked about ever more rarely, and not put off by it; after an hour of quiet that is forgotten', async ({
  database,
}) => {
  await using index = indexOn(database)
  const { db } = index
  const rows = async () => (await db.query<{ dueAt: string }>('select "dueAt" from account_check')).rows
  const toggled = (count: number): Status => (count % 2 === 0 ? undefined : 'deactivated')
  await applyBatch(index, [said(T0, toggled(0))])
  const waits: number[] = []
  for (let count = 1; count <= 14; count++) {
    const beganMs = Date.now()
    await applyBatch(index, [said(T0 + count, toggled(count))])
    const [{ dueAt }] = (await rows()) as [{ dueAt: string }]
    // Since before the batch, which may take as long again.
    waits.push(2 ** Math.floor(Math.log2((Date.parse(dueAt) - beganMs) / 1_000)))
    await applyBatch(index, [said(T0 - count, toggled(count + 1)), said(T0 + count, toggled(count))])
    expect(await rows()).toEqual([{ dueAt }])
    expect(await answer(index, (await claim(index))!, toggled(count), T0)).toBe('as-held')
  }
  expect(waits).toEqual([2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 4096, 4096])
  const look = { until: EVER, limit: 1, queue: 'new' } as const
  for (const [hours, kept] of [
    [0.9, 1],
    [1.1, 0],
  ] as const) {
    // prettier-ignore
    await claimAccountChecks(db, { ...look, now: new Date(Date.now() + hours * 3_600_000).toISOString() })
    expect(await rows()).toHaveLength(kept)
  }
})

test('A2 news of an account that was purged are asked about, and its absence is an answer like others', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(index, [found(T0, 'deleted')])
  await index.db.query(`update account_deletion set state = 'purged'`)
  await index.db.query('delete from actor')
  await applyBatch(index, [found(T0, 'deleted')])
  expect(await isAsked(index)).toBe(false)
  await applyBatch(index, [said(T0 - 3 * MINUTES, undefined)])
  expect(await answer(index, (await claim(index))!, 'deleted', T0)).toBe('as-held')
  await applyBatch(index, [said(T0 - 2 * MINUTES, undefined)])
  expect(await answer(index, (await claim(index))!, undefined, T0)).toBe('differs')
  const { rows } = await index.db.query('select state from account_deletion')
  expect(rows).toEqual([{ state: 'returned' }])
})

/**
 * 20,000 that are to be asked about, as many whose hosts gave no answer, and some that wait to be forgotten; each a
 * second behind the one before.
 */
const MANY = `
  insert into account_check (did, state, "dueAt", tries)
  select 'did:plc:' || n, (array['new', 'failing', 'asked'])[n % 3 + 1], to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS".000Z"'), 1
  from generate_series(0, 60000) n;
  analyze account_check`

test('O1 how overdue the questions are is known from the first of each kind, however many there are', async ({
  database,
}) => {
  await using index = indexOn(database, { size: 1 })
  const { db } = index
  expect(await overdueAccountChecks(db, new Date())).toEqual({ new: 0, failing: 0 })
  await db.query(MANY)
  const before = await rowsRead(db, 'account_check')
  expect(await overdueAccountChecks(db, new Date(T0 + 10_000))).toEqual({ new: 10, failing: 9 })
  expect((await rowsRead(db, 'account_check')) - before).toBeLessThan(10)
  // Who is claimed is due when the claim ends.
  await db.query(`update account_check set "dueAt" = $1 where state = 'new'`, [new Date(T0 + 11_000).toISOString()])
  expect(await overdueAccountChecks(db, new Date(T0 + 10_000))).toEqual({ new: 0, failing: 9 })
})

/**
 * What a host does and says, by a clock of its own; what we find out meanwhile, by ours; all of it late, twice and in
 * any order; and questions that cross it.
 */
test.for(SEEDS)(
  'A1 A3 whatever the clocks, in the end the index says what the host says (seed %i)',
  async (seed, { database }) => {
    await using index = indexOn(database)
    const random = new Random(seed)
    const skewMs = SKEWS_MS[seed % SKEWS_MS.length]!
    const news: AccountEvent[] = []
    const underWay: AccountEvent[] = []
    let nowMs = T0
    let status: Status
    const asked: { taken: AccountClaim; status: Status; atMs: number }[] = []
    const tell = (event: AccountEvent): void => {
      news.push(event)
      underWay.push(event)
    }
    const deliver = async (count: number): Promise<void> => {
      const batch = random.shuffled(underWay).slice(0, count)
      for (const event of batch) underWay.splice(underWay.indexOf(event), 1)
      if (batch.length > 0 && random.chance(0.2)) batch.push(random.pick(news))
      if (batch.length > 0) await applyBatch(index, batch)
    }
    const settle = async (): Promise<void> => {
      const [one] = asked.splice(random.below(asked.length), 1)
      if (one) await answer(index, one.taken, one.status, one.atMs)
    }
    const ask = async (): Promise<boolean> => {
      const taken = await claim(index)
      if (taken) asked.push({ taken, status, atMs: nowMs })
      return taken !== undefined
    }
    /** Whoever asks now takes too long. */
    const endClaims = async () => await index.db.query(`update account_check set "dueAt" = '' where state <> 'asked'`)
    tell(said(nowMs + skewMs, status))
    const live = async (): Promise<void> => {
      nowMs += random.below(MINUTES)
      switch (random.weighted({ change: 2, find: 2, deliver: 4, ask: 3, settle: 3 })) {
        case 'change':
          status = random.pick([undefined, 'deactivated', 'takendown'].filter((other) => other !== status))
          tell(said(nowMs + skewMs, status))
          break
        case 'find':
          tell(found(nowMs, status))
          break
        case 'deliver':
          await deliver(1 + random.below(3))
          break
        case 'ask':
          if (random.chance(0.3)) await endClaims()
          await ask()
          break
        case 'settle':
          await settle()
      }
    }
    for (let life = 0; life < LIVES; life++) {
      for (let step = random.below(STEPS); step >= 0; step--) await live()
      while (underWay.length > 0) await deliver(1)
      await endClaims()
      while (asked.length > 0 || (await ask())) await settle()
      expect(await held(index)).toBe(status)
    }
  },
)

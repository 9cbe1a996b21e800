/** A2: who waits for what, of the accounts whose deletion was reported. */
import type { AccountEvent } from '@sluice/events/stream-event.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { applyBatch, type Index } from './apply-batch.ts'
import { claimDeletions, DELETION_QUEUES, failDeletion, overdueDeletions, giveBackDeletion } from './deletion-queue.ts'
import { purgeAccount } from './purge.ts'
import { indexOn } from './testing/index-on.ts'
import { abortedAtLook } from './testing/aborted.ts'
import { rowsRead } from './testing/rows-read.ts'

const [ANN, BOB, CAT, DAN] = ['ann', 'bob', 'cat', 'dan'].map((name) => `did:plc:${name.padEnd(24, '2')}`) as [
  string,
  string,
  string,
  string,
]
const TABLE = 'account_deletion'
const ever = { now: '9', until: '9', limit: 10 }

const deleted = (did: string, day = 1): AccountEvent => {
  return { type: 'account', seq: 1, time: `2026-01-0${day}T00:00:00.000Z`, did, active: false, status: 'deleted' }
}
const back = (did: string): AccountEvent => {
  return { type: 'account', seq: 2, time: '2026-01-09T00:00:00.000Z', did, active: true }
}

/** By queue, whom it has. */
async function queues({ db }: Index): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {}
  for (const queue of DELETION_QUEUES) {
    found[queue] = (await claimDeletions(db, { ...ever, queue })).map(({ did }) => did).sort()
  }
  return found
}

test('A2 who is back, what is new and what fails wait apart from each other', async ({ database }) => {
  await using index = indexOn(database)
  await applyBatch(
    index,
    [ANN, BOB, CAT, DAN].map((did) => deleted(did)),
  )
  for (const did of [BOB, CAT]) await failDeletion(index.db, did, '3')
  await applyBatch(index, [back(CAT)])
  expect(await queues(index)).toEqual({ returned: [CAT], new: [ANN, DAN], failing: [BOB] })
})

test('A2 a deletion that fails is not new when it is reported again, but when it was confirmed', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(index, [deleted(ANN)])
  await failDeletion(index.db, ANN, '3')
  await applyBatch(index, [deleted(ANN, 2)])
  expect(await queues(index)).toEqual({ returned: [], new: [], failing: [ANN] })
  const [claim] = await claimDeletions(index.db, ever)
  await expect(purgeAccount(index, claim!, { signal: abortedAtLook(1) })).rejects.toThrow()
  expect(await queues(index)).toEqual({ returned: [], new: [ANN], failing: [] })
})

test('A2 who came back while nobody answered does not wait for the next question', async ({ database }) => {
  await using index = indexOn(database)
  await applyBatch(index, [deleted(ANN)])
  await claimDeletions(index.db, { ...ever, until: '99' })
  await applyBatch(index, [back(ANN)])
  await failDeletion(index.db, ANN, '99')
  expect(await queues(index)).toEqual({ returned: [ANN], new: [], failing: [] })
})

test('A2 of whom nobody was asked waits where it was, and who came back meanwhile does not wait', async ({
  database,
}) => {
  await using index = indexOn(database)
  await applyBatch(
    index,
    [ANN, BOB, CAT].map((did) => deleted(did)),
  )
  await failDeletion(index.db, BOB, '3')
  await claimDeletions(index.db, { ...ever, until: '99' })
  await applyBatch(index, [back(CAT)])
  for (const did of [ANN, BOB]) await giveBackDeletion(index.db, did, '3')
  await giveBackDeletion(index.db, CAT, '99')
  expect(await queues(index)).toEqual({ returned: [CAT], new: [ANN], failing: [BOB] })
})

/** 20,000 that are due, and as many that are due and have failed, each a second behind the one before. */
const MANY = `
  insert into account_deletion (did, state, "deletedAt", "dueAt", tries)
  select 'did:plc:' || n, case when n % 3 = 0 then 'purging' else 'reported' end, '1', to_char(timestamp '2026-01-01' + n * interval '1 second', 'YYYY-MM-DD"T"HH24:MI:SS".000Z"'), n % 2
  from generate_series(1, 40000) n;
  insert into account_deletion (did, state, "deletedAt", "dueAt", tries) values
    ('did:plc:back', 'returned', '1', '2026-01-01T00:00:00.000Z', 0), ('did:plc:gone', 'purged', '1', '1', 0);
  analyze account_deletion`

test.for(DELETION_QUEUES)(
  'A2 a claim of those that are %s reads what it takes, however many are due',
  async (queue, { database }) => {
    await using index = indexOn(database, { size: 1 })
    await index.db.query(MANY)
    const before = await rowsRead(index.db, TABLE)
    const claims = await claimDeletions(index.db, { ...ever, limit: 1, queue })
    expect(claims).toHaveLength(1)
    expect((await rowsRead(index.db, TABLE)) - before).toBeLessThan(10)
  },
)

test('O1 how overdue the deletions are is known from the first of each kind, however many are due', async ({
  database,
}) => {
  await using index = indexOn(database, { size: 1 })
  const { db } = index
  expect(await overdueDeletions(db, new Date())).toEqual({ returned: 0, new: 0, failing: 0 })
  await db.query(MANY)
  const before = await rowsRead(db, TABLE)
  const at = new Date('2026-01-01T00:00:10.000Z')
  expect(await overdueDeletions(db, at)).toEqual({ returned: 10, new: 8, failing: 9 })
  expect((await rowsRead(db, TABLE)) - before).toBeLessThan(10)
})

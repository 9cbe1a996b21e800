import { aggregateRow, count, table, type Counter } from '@sluice/collections/define.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { Deltas } from './deltas.ts'

const like = table('like', { uri: 'text', subject: 'text' })
const post = table('post', { uri: 'text', creator: 'text', replyParent: 'text?', violatesThreadGate: 'boolean?' })
const likes: Counter = count(like, 'subject').into('post_agg', 'likeCount')
const replies: Counter = count(post, 'replyParent').unless('violatesThreadGate').into('post_agg', 'replyCount')
const posts: Counter = count(post, 'creator').into('profile_agg', 'postsCount', 'did')

async function flushed(url: string, ...batches: ((deltas: Deltas) => void)[]): Promise<Record<string, number>> {
  const db = new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' })
  try {
    for (const fill of batches) {
      const deltas = new Deltas()
      fill(deltas)
      await transaction(db, { doing: 'counting' }, async (tx) => deltas.flush(tx))
    }
    const { rows } = await db.query<{ key: string; n: string }>(`
      select uri || ' likes' as key, "likeCount" as n from post_agg where "likeCount" <> 0
      union all select uri || ' replies', "replyCount" from post_agg where "replyCount" <> 0
      union all select did || ' posts', "postsCount" from profile_agg where "postsCount" <> 0
      union all select 'rows', (select count(*) from post_agg) + (select count(*) from profile_agg)`)
    return Object.fromEntries(rows.map(({ key, n }) => [key, Number(n)]))
  } finally {
    await db.close()
  }
}

test('counts add up over rows, columns, tables and batches', async ({ database }) => {
  const first = (deltas: Deltas): void => {
    for (const subject of ['a', 'b', 'a']) deltas.add([likes], { subject }, 1)
    deltas.add([replies, posts], { creator: 'did:plc:x', replyParent: 'a', violatesThreadGate: null }, 1)
  }
  const second = (deltas: Deltas): void => {
    deltas.add([likes], { subject: 'a' }, -1)
    deltas.add([likes], { subject: 'c' }, 1)
    deltas.add([replies, posts], { creator: 'did:plc:x', replyParent: 'b', violatesThreadGate: false }, 1)
  }
  expect(await flushed(database, first, second)).toEqual({
    'a likes': 1,
    'b likes': 1,
    'c likes': 1,
    'a replies': 1,
    'b replies': 1,
    'did:plc:x posts': 2,
    rows: 4,
  })
})

test('rows that name nothing, or that the counter leaves out, do not count', async ({ database }) => {
  const fill = (deltas: Deltas): void => {
    deltas.add([replies, posts], { creator: 'did:plc:x', replyParent: null }, 1)
    deltas.add([replies], { replyParent: 'a', violatesThreadGate: true }, 1)
  }
  expect(await flushed(database, fill)).toEqual({ 'did:plc:x posts': 1, rows: 1 })
})

test('a row that is to be there is there, counted or not', async ({ database }) => {
  const authors = [aggregateRow(post, 'creator', { table: 'profile_agg', key: 'did' })]
  const first = (deltas: Deltas): void => {
    deltas.keep(authors, { creator: 'did:plc:x' })
    deltas.keep(authors, { creator: null })
    deltas.add([posts], { creator: 'did:plc:y' }, 1)
  }
  const second = (deltas: Deltas): void => {
    for (const creator of ['did:plc:y', 'did:plc:z']) deltas.keep(authors, { creator })
  }
  expect(await flushed(database, first, second)).toEqual({ 'did:plc:y posts': 1, rows: 3 })
})

test('what cancels out within a batch writes nothing', async ({ database }) => {
  const fill = (deltas: Deltas): void => {
    deltas.add([likes], { subject: 'a' }, 1)
    deltas.add([likes], { subject: 'a' }, -1)
  }
  expect(await flushed(database, fill)).toEqual({ rows: 0 })
})

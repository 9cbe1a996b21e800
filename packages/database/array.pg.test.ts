import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { DatabasePool } from './pool.ts'
import { transaction } from './transaction.ts'

const NASTY = [
  '',
  ' ',
  'plain',
  'NULL',
  'null',
  '{}',
  '"',
  '\\',
  '\\"',
  'a,b',
  "it's",
  'a\nb\tc\r',
  '😀',
  '\u2028',
  '}{',
]

test('an array comes back element by element, whatever is in it', async ({ emptyDatabase }) => {
  await using pool = new DatabasePool({ url: emptyDatabase, schema: 'bsky', size: 1, role: 'test' })
  const text = { text: 'select $1::text[] as value' }
  for (const value of [NASTY, [], [null], [null, 'a', null], [NASTY.join('')], ['é'.repeat(1_000)]]) {
    expect((await pool.query<{ value: unknown }>(text, [value])).rows).toEqual([{ value }])
    const inside = await transaction(pool, { doing: 'testing' }, (tx) => tx.query(text, [value]))
    expect(inside.rows).toEqual([{ value }])
  }
  const { rows } = await pool.query(
    'select $1::int[] as ints, $2::boolean[] as flags, $3::bytea[] as bytes, $4::int[] as nested, $5::text[] as mixed',
    [[1, null, -2], [true, false, null], [Buffer.from([0, 255])], [[1], [2]], [1, '"', true]],
  )
  expect(rows).toEqual([
    {
      ints: [1, null, -2],
      flags: [true, false, null],
      bytes: [Buffer.from([0, 255])],
      nested: [[1], [2]],
      mixed: ['1', '"', 'true'],
    },
  ])
})

test('a missing element is null', async ({ emptyDatabase }) => {
  await using pool = new DatabasePool({ url: emptyDatabase, schema: 'bsky', size: 1, role: 'test' })
  const { rows } = await pool.query('select $1::text[] as texts, $2::int[] as ints', [
    ['a', undefined],
    [1, undefined],
  ])
  expect(rows).toEqual([{ texts: ['a', null], ints: [1, null] }])
})

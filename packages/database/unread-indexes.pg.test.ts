/** 0010: three of the AppView's indexes go, where a range of URIs leads to what they led to, and do not come back. */
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { migrate } from './migrate.ts'
import { UNREAD_INDEXES } from './migrations/0010-unread-indexes.ts'
import { DatabasePool } from './pool.ts'

function poolOf(url: string): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 1, role: 'test' })
}

test('indexes that a range of URIs stands in for stay where text has another order', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  const unread = async (): Promise<string[]> => {
    const found = await pool.query<{ name: string }>(
      `select indexname::text as name from pg_indexes where schemaname = 'bsky' and indexname::text = any($1::text[]) order by 1`,
      [UNREAD_INDEXES],
    )
    return found.rows.map(({ name }) => name)
  }
  await migrate(emptyDatabase, 'bsky')
  expect(await unread()).toEqual([])
  // As an AppView's migrator leaves them, on a database of that order.
  await pool.query(`delete from sluice_migration where name = '0010-unread-indexes'`)
  await pool.query('create index record_did_idx on record (did)')
  await pool.query('create index notification_author_idx on notification (author)')
  await pool.query('create index feed_item_post_uri_idx on feed_item ("postUri")')
  await pool.query('alter table label alter column val type varchar collate "und-x-icu"')
  expect(await migrate(emptyDatabase, 'bsky')).toEqual({ applied: ['0010-unread-indexes'] })
  expect(await unread()).toEqual([...UNREAD_INDEXES].sort())
})

test('a first load that began before builds none of them at its end', async ({ emptyDatabase }) => {
  await using pool = poolOf(emptyDatabase)
  await migrate(emptyDatabase, 'bsky')
  await pool.query(`delete from sluice_migration where name = '0010-unread-indexes'`)
  await pool.query(
    `insert into bulk_index (name, "table", definition, "isUnique", "isConstraint")
     select name, 'record', 'create index', false, false from unnest($1::text[]) as name`,
    [[...UNREAD_INDEXES, 'like_creator_cursor_idx']],
  )
  await migrate(emptyDatabase, 'bsky')
  expect((await pool.query('select name from bulk_index')).rows).toEqual([{ name: 'like_creator_cursor_idx' }])
})

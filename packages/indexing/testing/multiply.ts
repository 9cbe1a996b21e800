/**
 * Makes many rows out of a few, by copies that differ in some of their columns. The values of the other columns are
 * then shared by many rows. So a statement that looks rows up by a shared column reads all of them.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'

/**
 * By table, for each kind of copy, the columns that differ. A key by which the data path expects to find many rows is
 * never shared by the copies: what is below a post, whom a gate judged.
 */
const KINDS: Readonly<Record<string, readonly string[][]>> = {
  record: [['uri', 'did']],
  tombstone: [['uri', 'did']],
  duplicate_record: [['uri', 'duplicateOf']],
  like: [['uri', 'creator'], ['uri', 'subject']], // prettier-ignore
  repost: [['uri', 'creator'], ['uri', 'subject']], // prettier-ignore
  follow: [['uri', 'creator'], ['uri', 'subjectDid']], // prettier-ignore
  actor_block: [['uri', 'creator'], ['uri', 'subjectDid']], // prettier-ignore
  list_item: [['uri', 'listUri'], ['uri', 'subjectDid']], // prettier-ignore
  list_block: [['uri', 'creator'], ['uri', 'subjectUri']], // prettier-ignore
  reference_list_opt_out: [['uri', 'creator'], ['uri', 'subjectUri']], // prettier-ignore
  verification: [['uri', 'creator'], ['uri', 'subject']], // prettier-ignore
  post: [['uri', 'replyRoot', 'replyParent']],
  feed_item: [['uri', 'postUri']],
  quote: [['uri', 'subject']],
  post_embed_record: [['postUri']],
  op_thread_reply: [['uri', 'rootUri', 'parentUri']],
  thread_gate: [['uri', 'postUri']],
  post_gate: [['uri', 'postUri']],
  list: [['uri']],
  profile: [['uri']],
  notification: [['recordUri']],
  past_fact: [['uri', 'did', 'key', 'fact']],
  gated_reply: [['uri', 'creator'], ['uri', 'owner']], // prettier-ignore
  thread_mute: [['rootUri', 'mutedByDid']],
  actor: [['did', 'handle']],
  actor_sync: [['did']],
  account_deletion: [['did']],
  account_check: [['did']],
  handle_check: [['did']],
  settle_later: [['uri']],
  post_agg: [['uri']],
  profile_agg: [['did']],
  label: [['uri']],
}

/**
 * Afterwards a table has at most a few more than `rows` rows. Empty tables stay empty.
 * @returns by table, how many rows it has
 */
export async function multiply(db: DatabasePool, rows: number): Promise<Map<string, number>> {
  const counts = new Map<string, number>()
  for (const [table, kinds] of Object.entries(KINDS)) {
    for (const kind of kinds) await copy(db, table, kind, rows / kinds.length)
    const { rows: counted } = await db.query<{ n: number }>(`select count(*)::int as n from "${table}"`)
    counts.set(table, counted[0]!.n)
  }
  return counts
}

async function copy(db: DatabasePool, table: string, kind: readonly string[], rows: number): Promise<void> {
  const { rows: columns } = await db.query<{ name: string; type: string }>(COLUMNS, [table])
  const values = columns.map(({ name, type }) => {
    const column = `"${name}"`
    if (!kind.includes(name)) return column
    if (name === 'handle') return `n || held.handle`
    return `replace(held.${column}::text, 'did:plc:', 'did:plc:' || n)::${type}`
  })
  const names = columns.map(({ name }) => `"${name}"`).join(', ')
  await db.query(
    `insert into "${table}" (${names}) select ${values.join(', ')}
    from (select * from "${table}" order by 1 limit 100) held
    cross join generate_series(1, (select ceil($1::float8 / greatest(least(count(*), 100), 1))::int from "${table}")) n
    on conflict do nothing`,
    [rows],
  )
}

/** All columns except those that PostgreSQL fills by itself. */
const COLUMNS = `
  select column_name as name, data_type as type from information_schema.columns
  where table_schema = 'bsky' and table_name = $1 and is_generated = 'NEVER' and column_default is distinct from 'nextval(''notification_id_seq''::regclass)'`

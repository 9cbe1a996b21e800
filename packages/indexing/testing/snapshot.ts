/** All content of the index, in a form that can be compared. */
import type { DatabasePool } from '@sluice/database/pool.ts'

/** Table → sorted rows as JSON. */
export type Snapshot = Record<string, string[]>

const TABLES: Record<string, { ignore: string[] }> = {
  record: { ignore: ['rev', 'fromExport'] },
  duplicate_record: { ignore: [] },
  profile: { ignore: [] },
  post: { ignore: [] },
  feed_item: { ignore: [] },
  post_embed_image: { ignore: [] },
  post_embed_gallery_image: { ignore: [] },
  post_embed_external: { ignore: [] },
  post_embed_record: { ignore: [] },
  post_embed_video: { ignore: [] },
  quote: { ignore: [] },
  op_thread_reply: { ignore: [] },
  like: { ignore: [] },
  repost: { ignore: [] },
  follow: { ignore: [] },
  actor_block: { ignore: [] },
  list: { ignore: [] },
  list_item: { ignore: [] },
  list_block: { ignore: [] },
  thread_gate: { ignore: [] },
  post_gate: { ignore: [] },
  feed_generator: { ignore: [] },
  starter_pack: { ignore: [] },
  labeler: { ignore: [] },
  verification: { ignore: [] },
  reference_list_opt_out: { ignore: [] },
  notification: { ignore: ['id'] },
  post_agg: { ignore: [] },
  profile_agg: { ignore: [] },
  actor: { ignore: ['indexedAt'] },
  actor_sync: { ignore: [] },
}

export interface SnapshotOptions {
  /** Leaves out when records were indexed, which depends on how they arrived. */
  withoutTimes?: boolean
}

const TIMES = ['indexedAt', 'sortAt', 'sortedAt', 'deletedAt']

/**
 * Reads all tables. Null and false count as equal, since null in a flag means that nothing is against the post. An
 * aggregate row of zeros counts as no row.
 */
export async function snapshot(db: DatabasePool, { withoutTimes = false }: SnapshotOptions = {}): Promise<Snapshot> {
  const result: Snapshot = {}
  for (const [table, { ignore }] of Object.entries(TABLES)) {
    const { rows } = await db.query<{ row: Record<string, unknown> }>(`select to_jsonb(t) as row from "${table}" t`)
    const ignored = new Set([...ignore, ...(withoutTimes ? TIMES : [])])
    result[table] = rows
      .map(({ row }) => normal(row, ignored))
      .filter(
        (row) =>
          !table.endsWith('_agg') || Object.values(row).some((value) => typeof value === 'number' && value !== 0),
      )
      .map((row) => JSON.stringify(row))
      .sort()
  }
  const { rows } = await db.query<{ line: string }>(ASSOCIATED)
  result.associated = rows.map(({ line }) => line).sort()
  return result
}

/**
 * What the AppView counts for each row of `profile_agg` (`getCountsForUsers`): here a row of zeros differs from no row.
 */
const ASSOCIATED = `
  select concat_ws(' ', did, feeds, lists, packs) as line from (
    select did, (select count(*) from feed_generator where creator = did) as feeds, (select count(*) from list where creator = did) as lists,
      (select count(*) from starter_pack where creator = did) as packs
    from profile_agg
  ) counted where feeds + lists + packs > 0`

function normal(row: Record<string, unknown>, ignored: ReadonlySet<string>): Record<string, unknown> {
  const kept = Object.entries(row).filter(([column]) => !ignored.has(column))
  return Object.fromEntries(
    kept
      .map(([column, value]) => [column, value === false ? null : value])
      .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  )
}

/** Lists what one snapshot has and the other has not, at most `limit` lines. */
export function differences(expected: Snapshot, found: Snapshot, limit = 20): string[] {
  const lines = Object.keys(expected).flatMap((table) => {
    const [want, have] = [new Map<string, number>(), new Map<string, number>()]
    for (const row of expected[table]!) want.set(row, (want.get(row) ?? 0) + 1)
    for (const row of found[table]!) have.set(row, (have.get(row) ?? 0) + 1)
    return [
      ...[...want].filter(([row, n]) => (have.get(row) ?? 0) < n).map(([row]) => `${table} lacks ${row}`),
      ...[...have].filter(([row, n]) => (want.get(row) ?? 0) < n).map(([row]) => `${table} has   ${row}`),
    ]
  })
  return lines.slice(0, limit)
}

/**
 * Applies labels. For each (src, uri, cid, val) the label with the latest `cts` stands, negations included, in any
 * order of arrival. Of two with the same `cts` the negation stands: it cannot have come before the label that it
 * negates. Of two that are also alike in this, the one with the later expiry stands.
 */
import { normalizeDatetime } from '@sluice/collections/values.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import type { Label, LabelStreamEvent } from '@sluice/events/label-event.ts'

interface LabelRow {
  src: string
  uri: string
  cid: string
  val: string
  neg: boolean
  cts: string
  exp: string | null
}

/** @throws TransientError, RefusedError or FatalError; then nothing was applied */
export async function applyLabels(db: DatabasePool, events: readonly LabelStreamEvent[]): Promise<{ changed: number }> {
  const rows = latest(events.map(({ label }) => rowOf(label)))
  const { rowCount } = await transaction(db, { doing: 'applying labels' }, (tx) =>
    tx.query(UPSERT, [
      rows.map((r) => r.src),
      rows.map((r) => r.uri),
      rows.map((r) => r.cid),
      rows.map((r) => r.val),
      rows.map((r) => r.neg),
      rows.map((r) => r.cts),
      rows.map((r) => r.exp),
    ]),
  )
  return { changed: rowCount ?? 0 }
}

function rowOf({ src, uri, cid = '', val, neg = false, cts, exp }: Label): LabelRow {
  return {
    src,
    uri,
    cid,
    val,
    neg,
    cts: normalizeDatetime(cts),
    exp: exp === undefined ? null : expiryOf(exp),
  }
}

/**
 * The expiry as it is stored. The AppView's reader casts it to a timestamp, and PostgreSQL has no year 0: one such
 * label would fail every answer that looks at its subject. The year 1 is as long past.
 */
function expiryOf(exp: string): string {
  const time = normalizeDatetime(exp)
  return time.startsWith('0000') ? '0001-01-01T00:00:00.000Z' : time
}

/** The row that stands for each key, in key order: the order in which rows are locked. */
function latest(rows: readonly LabelRow[]): LabelRow[] {
  const byKey = new Map<string, LabelRow>()
  for (const row of rows) {
    const key = `${row.src}\n${row.uri}\n${row.cid}\n${row.val}`
    const seen = byKey.get(key)
    if (!seen || isNewer(row, seen)) byKey.set(key, row)
  }
  return [...byKey].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, row]) => row)
}

function isNewer(a: LabelRow, b: LabelRow): boolean {
  if (a.cts !== b.cts) return a.cts > b.cts
  if (a.neg !== b.neg) return a.neg
  return (a.exp ?? FOREVER) > (b.exp ?? FOREVER)
}

/** Stands for "no expiry": sorts after every time. */
const FOREVER = '9999-99'

/** The same order as `isNewer`. */
const UPSERT = {
  name: 'upsert-labels',
  text: `
    insert into label as held (src, uri, cid, val, neg, cts, exp)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::boolean[], $6::text[], $7::text[])
    on conflict (src, uri, cid, val) do update set neg = excluded.neg, cts = excluded.cts, exp = excluded.exp
    where (excluded.cts, excluded.neg, coalesce(excluded.exp, '${FOREVER}')) > (held.cts, held.neg, coalesce(held.exp, '${FOREVER}'))`,
}

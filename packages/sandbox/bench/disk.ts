/** The disk space of an index, by table. */
import { SCHEMA } from '../template.ts'
import type { Bed } from './bed.ts'

export interface DiskUse {
  table: string
  rows: number
  /** MB per million events that filled the index. */
  tableMb: number
  indexMb: number
}

/** The largest first. @param events how many filled it */
export async function diskUse(bed: Bed, database: { name: string }, events: number): Promise<DiskUse[]> {
  const found = await bed.postgres.query<Record<'table' | 'rows' | 'tableBytes' | 'indexBytes', string>>(
    SIZES,
    [SCHEMA],
    database.name,
  )
  const perMillion = (bytes: string): number => Math.round(Number(bytes) / 2 ** 20 / (events / 1e6))
  return found
    .map(({ table, rows, tableBytes, indexBytes }) => ({
      table,
      rows: Number(rows),
      tableMb: perMillion(tableBytes),
      indexMb: perMillion(indexBytes),
    }))
    .filter(({ tableMb, indexMb }) => tableMb + indexMb > 0)
}

const SIZES = `
  select relname as table, greatest(reltuples, 0)::bigint as rows, pg_table_size(oid) as "tableBytes", pg_indexes_size(oid) as "indexBytes"
  from pg_class where relnamespace = $1::regnamespace and relkind = 'r'
  order by pg_total_relation_size(oid) desc`

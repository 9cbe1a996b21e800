/** Compares counters with the rows that they count, in either database. */
import type { Difference } from './compare.ts'
import type { Row, TableName, Tables } from './tables.ts'

type Recount = (side: Tables, key: string) => number

const COUNTS = {
  post_agg: {
    likeCount: counted('like', 'subject'),
    repostCount: counted('repost', 'subject'),
    replyCount: (side, uri) =>
      side.all('post').filter((row) => row.replyParent === uri && !row.violatesThreadGate).length,
    quoteCount: counted('quote', 'subject'),
    bookmarkCount: () => 0,
  },
  profile_agg: {
    followersCount: counted('follow', 'subjectDid'),
    followsCount: counted('follow', 'creator'),
    postsCount: counted('post', 'creator'),
  },
} satisfies Partial<Record<TableName, Record<string, Recount>>>

function counted(table: TableName, column: string): Recount {
  return (side, key) => side.all(table).filter((row) => row[column] === key).length
}

/** The counters that a difference is about. */
export function countersOf(difference: Difference): string[] {
  if (!(difference.table in COUNTS)) return []
  if (difference.kind === 'column') return [difference.column]
  const row = difference.kind === 'only ours' ? difference.ours : difference.official
  return Object.keys(COUNTS[difference.table as keyof typeof COUNTS]).filter((column) => row[column] !== 0)
}

/** The values of these counters in `side`. */
export function valuesOf({ table, key }: Difference, side: Tables, columns: readonly string[]): number[] {
  const [row] = side.at(table, key) as (Row | undefined)[]
  return columns.map((column) => Number(row?.[column] ?? 0))
}

/** Whether these counters in `side` equal what its rows say. */
export function areRight(difference: Difference, side: Tables, columns: readonly string[]): boolean {
  const recount: Record<string, Recount> = COUNTS[difference.table as keyof typeof COUNTS]
  const values = valuesOf(difference, side, columns)
  return columns.every((column, i) => recount[column]?.(side, difference.key) === values[i])
}

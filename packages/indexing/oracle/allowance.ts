/** The form of an allowed difference: when it applies is a predicate over both databases, so that it explains this difference and no other. */
import { didOfUri } from '@sluice/events/stream-event.ts'
import type { Difference } from './compare.ts'
import type { Happened } from './happened.ts'
import type { Row, TableName, Tables } from './tables.ts'

export interface Allowance {
  /** Names it in test output. */
  id: string
  tables: readonly TableName[]
  /** What the official indexer does. */
  theirs: string
  /** What ours does, and why. */
  ours: string
  explains(difference: Difference, both: Both): boolean
}

/** Both databases at one moment, and what had happened by then. */
export class Both {
  readonly official: Tables
  readonly ours: Tables
  readonly happened: Happened

  constructor(official: Tables, ours: Tables, happened: Happened) {
    this.official = official
    this.ours = ours
    this.happened = happened
  }

  /** The record lives in both. */
  lives(uri: unknown): boolean {
    return [this.official, this.ours].every((side) => side.at('record', String(uri)).length > 0)
  }

  /** The record is in neither. */
  gone(uri: unknown): boolean {
    return [this.official, this.ours].every((side) => side.at('record', String(uri)).length === 0)
  }

  wasEdited(uri: unknown): boolean {
    return this.happened.edited.has(String(uri))
  }

  wasRemoved(uri: unknown): boolean {
    return this.happened.removed.has(String(uri))
  }

  /** Whether the account was deleted; of a record, whether its account was. */
  accountDeleted(didOrUri: unknown): boolean {
    const text = String(didOrUri)
    return this.happened.deleted.has(text.startsWith('at://') ? didOfUri(text) : text)
  }

  /** What the record says; `record` itself is compared too. */
  content(uri: unknown): Record<string, unknown> {
    const [row] = this.ours.at('record', String(uri))
    return row ? (JSON.parse(row.json as string) as Record<string, unknown>) : {}
  }
}

/** Tables in which one pair has one row, with the columns that make the pair. */
export const PAIRS = {
  like: ['creator', 'subject'],
  repost: ['creator', 'subject'],
  follow: ['creator', 'subjectDid'],
  actor_block: ['creator', 'subjectDid'],
  list_block: ['creator', 'subjectUri'],
  list_item: ['listUri', 'subjectDid'],
  verification: ['subject', 'creator'],
  reference_list_opt_out: ['creator', 'subjectUri'],
} as const satisfies Partial<Record<TableName, readonly string[]>>
export type PairTable = keyof typeof PAIRS
export const PAIR_TABLES = Object.keys(PAIRS) as PairTable[]

/** The row that holds a pair, and its table, when the record `uri` holds one in `side`. */
export function holderRow(side: Tables, uri: unknown): { table: PairTable; row: Row } | undefined {
  for (const table of PAIR_TABLES) {
    const [row] = side.at(table, String(uri))
    if (row) return { table, row }
  }
  return undefined
}

/** Who holds the same pair in `side`. */
export function holderOf(side: Tables, { table, row }: { table: PairTable; row: Row }): Row | undefined {
  return side.all(table).find((other) => PAIRS[table].every((column) => other[column] === row[column]))
}

/** A difference in one of `columns` of a row that both have. */
export function changed(difference: Difference, ...columns: readonly string[]) {
  return difference.kind === 'column' && columns.includes(difference.column) ? difference : undefined
}

/** The row that one side alone has. */
export function lone(difference: Difference): Row | undefined {
  if (difference.kind === 'column') return undefined
  return difference.kind === 'only ours' ? difference.ours : difference.official
}

/**
 * The form of an allowed difference. A predicate over both databases decides when it applies, so that it explains its
 * own difference and no other.
 */
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
  /** What our indexer does, and why. */
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

  /** Whether the record lives in both databases. */
  lives(uri: unknown): boolean {
    return [this.official, this.ours].every((side) => side.at('record', String(uri)).length > 0)
  }

  /** Whether the record is in neither database. */
  gone(uri: unknown): boolean {
    return [this.official, this.ours].every((side) => side.at('record', String(uri)).length === 0)
  }

  wasEdited(uri: unknown): boolean {
    return this.happened.edited.has(String(uri))
  }

  wasRemoved(uri: unknown): boolean {
    return this.happened.removed.has(String(uri))
  }

  /** Whether the account was deleted; for a record, whether its account was. */
  accountDeleted(didOrUri: unknown): boolean {
    const text = String(didOrUri)
    return this.happened.deleted.has(text.startsWith('at://') ? didOfUri(text) : text)
  }

  /** The record's content, from our database; the table `record` itself is compared too. */
  content(uri: unknown): Record<string, unknown> {
    const [row] = this.ours.at('record', String(uri))
    return row ? (JSON.parse(row.json as string) as Record<string, unknown>) : {}
  }
}

/** Tables in which each pair of values has one row, with the columns that make the pair. */
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

/** The row by which the record `uri` holds a pair in `side`, and its table; undefined if it holds none. */
export function holderRow(side: Tables, uri: unknown): { table: PairTable; row: Row } | undefined {
  for (const table of PAIR_TABLES) {
    const [row] = side.at(table, String(uri))
    if (row) return { table, row }
  }
  return undefined
}

/** The row that holds the same pair in `side`. */
export function holderOf(side: Tables, { table, row }: { table: PairTable; row: Row }): Row | undefined {
  return side.all(table).find((other) => PAIRS[table].every((column) => other[column] === row[column]))
}

/** The difference, if it is in one of `columns` of a row that both sides have. */
export function changed(difference: Difference, ...columns: readonly string[]) {
  return difference.kind === 'column' && columns.includes(difference.column) ? difference : undefined
}

/** The row, if one side alone has it. */
export function lone(difference: Difference): Row | undefined {
  if (difference.kind === 'column') return undefined
  return difference.kind === 'only ours' ? difference.ours : difference.official
}

/** `sluice recount`: counts anew what counters count, while everything runs, and mends those that are wrong. Says where to go on when it is stopped, or fails. */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import {
  aggregatesOf,
  recountKeys,
  recountStep,
  type Aggregate,
  type RecountStep,
  type WrongCounter,
} from '@sluice/indexing/recount.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { count, oneLine } from '../output.ts'
import type { Session } from '../session.ts'

interface Options {
  check?: boolean
  table?: string
  after?: string
  key?: string
}

/** Where a run that was stopped goes on. */
interface Position {
  table: string
  /** '' is the beginning. */
  after: string
  /** Tables that were not begun. */
  others: string[]
}

interface Told {
  keys: number
  wrong: number
  check: boolean
  shown: readonly (WrongCounter & { table: string })[]
  next?: Position
}

const SHOWN = 20

export const addRecount: Add = (cli, parent) => {
  parent
    .command('recount')
    .description('count likes, replies, followers, … anew and mend counters that are wrong, while the daemons run')
    .option('--check', 'change nothing; exit 1 when a counter is wrong')
    .option('--table <table>', 'only post_agg, or profile_agg')
    .option('--key <key>', 'only one post (its URI) or account (its DID)')
    .option('--after <key>', 'go on after this key, as a run that was stopped told')
    .addHelpText(
      'after',
      examples(
        ['sluice recount --check', 'is anything wrong?'],
        ['sluice recount', 'mend all counters'],
        ['sluice recount --table post_agg --after at://did:plc:…', 'go on where a run was stopped'],
      ),
    )
    .action((options: Options) => cli.run((session) => recount(session, options)))
}

async function recount(session: Session, { check = false, table, after, key }: Options): Promise<number> {
  const { signal } = session
  const all = aggregatesOf(new CollectionSet(collections))
  const aggregates = all.filter((aggregate) => table === undefined || aggregate.table === table)
  if (aggregates.length === 0) throw new CannotError(`there are counters in ${all.map((a) => a.table).join(' and ')}`)
  const isRecord = key?.startsWith('at://')
  if (after !== undefined && aggregates.length > 1) throw new CannotError('--after needs --table')
  const db = await session.db()
  if ((await bulkPhase(db)) !== undefined) {
    throw new CannotError('a first load is under way: its counters are made by `sluice bulk finish`')
  }
  let [keys, wrong] = [0, 0]
  const shown: (WrongCounter & { table: string })[] = []
  const saw = (aggregate: Aggregate, found: readonly WrongCounter[]): void => {
    wrong += found.length
    shown.push(...found.slice(0, SHOWN - shown.length).map((one) => ({ table: aggregate.table, ...one })))
  }
  let next: Position | undefined
  try {
    for (const [i, aggregate] of aggregates.entries()) {
      if (key !== undefined) {
        if ((aggregate.key === 'uri') !== isRecord) continue
        keys++
        saw(aggregate, await recountKeys(db, aggregate, [key], { check }))
        continue
      }
      next = { table: aggregate.table, after: after ?? '', others: aggregates.slice(i + 1).map((one) => one.table) }
      while (next && !signal.aborted) {
        const step: RecountStep = await recountStep(db, aggregate, { after: next.after, check })
        keys += step.keys
        saw(aggregate, step.wrong)
        next = step.after === undefined ? undefined : { ...next, after: step.after }
      }
      if (next) break
    }
  } finally {
    // Also when it fails: hours may have been counted, and what is at the beginning would be counted again.
    tell(session, { keys, wrong, check, shown, ...(next && { next }) })
  }
  return check && wrong > 0 ? EXIT.found : EXIT.done
}

function tell({ out }: Session, told: Told): void {
  const { keys, wrong, check, shown, next } = told
  out.document(told)
  for (const one of shown) {
    const columns = Object.entries(one.columns).map(([column, { was, is }]) => `${column} ${was}, right is ${is}`)
    out.line(`  ${one.table} ${oneLine(one.key)}: ${columns.join('; ')}`)
  }
  out.line(
    `${count(keys)} keys counted, ${count(wrong)} were wrong${check || wrong === 0 ? '' : ', and are right now'}`,
  )
  if (!next) return
  const from = next.after === '' ? '' : ` --after ${next.after}`
  out.line(
    `stopped; go on with: --table ${next.table}${from}${next.others.map((one) => `, then --table ${one}`).join('')}`,
  )
}

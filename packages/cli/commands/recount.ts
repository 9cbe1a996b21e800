/**
 * `sluice recount`: recomputes counters while everything runs, and corrects those that are wrong. When it is stopped,
 * or fails, it says where to go on.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { aggregatesOf, recountKeys, recountStep, type Aggregate, type WrongCounter } from '@sluice/indexing/recount.ts'
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

/** Where to continue a run that was stopped. */
interface Position {
  table: string
  /** The last key that was counted; '' is the beginning. */
  after: string
  /** Tables that are not begun yet. */
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
  const all = aggregatesOf(new CollectionSet(collections))
  const aggregates = all.filter((aggregate) => table === undefined || aggregate.table === table)
  if (aggregates.length === 0) throw new CannotError(`--table is ${all.map((a) => a.table).join(' or ')}`)
  if (after !== undefined && aggregates.length > 1) throw new CannotError('--after needs --table')
  const db = await session.db()
  if ((await bulkPhase(db)) !== undefined) {
    throw new CannotError('a first load is under way: its counters are made by `sluice bulk finish`')
  }
  const run = new Recount(db, { check })
  try {
    if (key === undefined) await run.all(aggregates, after ?? '', session.signal)
    else await run.one(aggregates, key)
  } finally {
    // Also when it fails: hours may have gone into counting, and without the position all of it would be done again.
    tell(session, run.told)
  }
  return check && run.told.wrong > 0 ? EXIT.found : EXIT.done
}

class Recount {
  readonly #db: DatabasePool
  readonly #check: boolean
  readonly #shown: (WrongCounter & { table: string })[] = []
  #keys = 0
  #wrong = 0
  /** Where to go on; undefined when everything is counted. */
  #next: Position | undefined

  constructor(db: DatabasePool, { check }: { check: boolean }) {
    this.#db = db
    this.#check = check
  }

  /** How far the run is. */
  get told(): Told {
    const next = this.#next
    return { keys: this.#keys, wrong: this.#wrong, check: this.#check, shown: this.#shown, ...(next && { next }) }
  }

  /** Recomputes the counters of one post or account. */
  async one(aggregates: readonly Aggregate[], key: string): Promise<void> {
    const isPost = key.startsWith('at://')
    for (const aggregate of aggregates) {
      if ((aggregate.key === 'uri') !== isPost) continue
      this.#keys++
      this.#note(aggregate, await recountKeys(this.#db, aggregate, [key], { check: this.#check }))
    }
  }

  /**
   * Recomputes the counters of all keys; with `after`, those of the keys behind it in the only table. Stops at the
   * signal.
   */
  async all(aggregates: readonly Aggregate[], after: string, signal: AbortSignal): Promise<void> {
    for (const [i, aggregate] of aggregates.entries()) {
      const others = aggregates.slice(i + 1).map(({ table }) => table)
      this.#next = { table: aggregate.table, after, others }
      while (this.#next !== undefined) {
        if (signal.aborted) return
        const step = await recountStep(this.#db, aggregate, { after: this.#next.after, check: this.#check })
        this.#keys += step.keys
        this.#note(aggregate, step.wrong)
        this.#next = step.after === undefined ? undefined : { ...this.#next, after: step.after }
      }
    }
  }

  #note({ table }: Aggregate, found: readonly WrongCounter[]): void {
    this.#wrong += found.length
    this.#shown.push(...found.slice(0, SHOWN - this.#shown.length).map((one) => ({ table, ...one })))
  }
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

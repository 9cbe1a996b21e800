/**
 * `sluice bulk`: the first load of a network. Indexes, counters and verdicts are made at its end. Each step may be
 * repeated.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import { beginBulkLoad } from '@sluice/indexing/bulk/begin.ts'
import { bulkStatus, finishBulkLoad, finishConnections } from '@sluice/indexing/bulk/finish.ts'
import { JOBS_MAX } from '@sluice/indexing/bulk/jobs.ts'
import type { FinishProgress } from '@sluice/indexing/bulk/step.ts'
import { wholeNumber } from '../arguments.ts'
import { EXIT, examples, type Add } from '../cli.ts'
import type { Session } from '../session.ts'

export const addBulk: Add = (cli, parent) => {
  const bulk = parent
    .command('bulk')
    .description(
      'the first load of a network into an empty index: faster, because what can wait is done once at the end',
    )
    .addHelpText(
      'after',
      examples(
        ['sluice bulk begin', 'before the daemons have written anything'],
        ['sluice bulk status', 'is a load under way, and how far is its end?'],
        ['sluice bulk finish', 'when the backfill has drained; stop and repeat it as you like'],
      ),
    )
  bulk
    .command('begin')
    .description('drop the secondary indexes of an empty index, and let batches leave out what is made at the end')
    .action(() => cli.run(begin))
  bulk
    .command('status')
    .description('what is under way; exit 1 when a load is')
    .action(() => cli.run(status))
  bulk
    .command('finish')
    .description('build the indexes, tell duplicates apart, count, judge the posts; the daemons go on meanwhile')
    .option(
      '--jobs <n>',
      'parts of each step side by side: as many as PostgreSQL has cores to spare',
      wholeNumber(1, JOBS_MAX),
      2,
    )
    .action(({ jobs }: { jobs: number }) => cli.run((session) => finish(session, jobs)))
}

const set = new CollectionSet(collections)

async function begin(session: Session): Promise<void> {
  const dropped = await beginBulkLoad(await session.db(), set)
  session.out.document({ dropped: dropped.map(({ name }) => name) })
  session.out.line(
    dropped.length === 0
      ? 'a bulk load is under way already'
      : `a bulk load is under way: ${dropped.length} indexes wait until \`sluice bulk finish\`. The AppView must not read before that`,
  )
}

async function status(session: Session): Promise<number> {
  const { out } = session
  const state = await bulkStatus(await session.db())
  out.document({ ...state })
  if (!state.phase) out.line('no bulk load is under way')
  else {
    out.line(`${state.phase}, begun ${state.startedAt}; indexes to build: ${state.indexes}`)
    for (const { name, position, done } of state.steps)
      out.line(`  ${name}: ${done ? 'done' : position === '' ? 'begun' : `at ${position}`}`)
  }
  return state.phase ? EXIT.found : EXIT.done
}

async function finish(session: Session, jobs: number): Promise<void> {
  const { out, settings, signal } = session
  await session.db() // if PostgreSQL is away, this says so in one line
  // No limit on statements: to build an index may take hours.
  await using db = new DatabasePool({
    url: session.postgresUrl,
    schema: settings.schema,
    size: finishConnections(jobs),
    role: 'bulk',
    statementMs: 0,
  })
  let last = ''
  const onProgress = ({ step, at }: FinishProgress): void => {
    const line = `${step} ${at}`.trim()
    if (line !== last) out.line(line)
    last = line
  }
  await finishBulkLoad(db, set, { signal, onProgress, jobs })
  out.document({ finished: true })
  out.line('the bulk load is finished: the index is complete')
}

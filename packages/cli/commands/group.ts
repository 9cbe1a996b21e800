/**
 * `sluice group reset`: resets a consumer group. Says what that means, and does nothing without --yes.
 *
 * - To the start: every entry in the stream is handed out again. Nothing is lost, since entries that were done are
 *   not in the stream any more.
 * - To the end: the entries that wait are never applied. Their accounts are queued to be fetched again, which brings
 *   their records back.
 */
import { underWayKey } from '@sluice/streams/backfill-queue.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { suspectsKey } from '@sluice/streams/suspects.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import type { Reading } from '../config.ts'
import { hasGroup, holdersOf } from '../groups.ts'
import { count } from '../output.ts'
import { readingNamed } from '../reading-named.ts'
import { requestRepos } from '../requests.ts'
import type { Session } from '../session.ts'
import { subjectOf } from '../subject.ts'

const PAGE = 1_000

interface Options {
  to: 'start' | 'end'
  yes?: boolean
}

export const addGroup: Add = (cli, parent) => {
  const group = parent.command('group').description('begin a consumer group anew')
  group.addHelpText(
    'after',
    examples(
      ['sluice group reset firehose_live', 'what would happen (a dry run)'],
      ['sluice group reset firehose_live --yes', 'hand out all entries again; nothing is lost'],
      ['sluice group reset firehose_backfill --to end --yes', 'drop what waits; fetch its accounts anew'],
    ),
  )
  group
    .command('reset')
    .description('hand out a stream again from its start, or drop what waits in it; a dry run without --yes')
    .argument('<stream>')
    .option('--to <place>', 'start: everything again; end: nothing of what is there', 'start')
    .option('--yes', 'do it')
    .action((stream: string, options: Options, command) => {
      if (!['start', 'end'].includes(options.to)) command.error('error: --to is start or end')
      return cli.run((session) => reset(session, readingNamed(session.settings, stream), options))
    })
}

async function reset(session: Session, reading: Reading, { to, yes = false }: Options): Promise<number> {
  const { out } = session
  const redis = await session.redis()
  const { stream, group, role } = reading
  if (!(await hasGroup(redis, stream, group))) {
    throw new CannotError(`${stream} has no group ${group} yet: the first ${role} that starts makes it, from the start`)
  }
  const holders = await holdersOf(redis, reading)
  const entries = await classified(redis.xLen(stream))
  const pending = holders.reduce((sum, holder) => sum + holder.pending, 0)
  out.line(
    `${stream}, group ${group}: ${count(entries)} entries wait, ${count(pending)} of them handed out and not acked.`,
  )
  for (const line of explain(session, reading, to)) out.line(`  ${line}`)
  const alive = holders.filter((holder) => holder.process !== undefined)
  const names = alive.map(({ consumer, process }) => `${consumer} (${process})`).join(', ')
  if (!yes) {
    if (alive.length > 0) out.line(`  Before that, stop its consumers: ${names}.`)
    out.line('Nothing was done; add --yes to do it.')
    out.document({ stream, group, to, entries, pending, done: false, alive: alive.map(({ consumer }) => consumer) })
    return EXIT.done
  }
  if (alive.length > 0) {
    throw new CannotError(
      `stop the consumers of ${group} on ${stream} first, they would work on entries that are handed out again: ${names}`,
    )
  }
  const queued = to === 'end' ? await skip(session, redis, reading) : 0
  await regroup(redis, reading)
  out.document({ stream, group, to, entries, pending, done: true, queued })
  out.line(
    to === 'start'
      ? `done: the next ${role} begins at the first of ${count(entries)} entries`
      : `done: ${count(entries)} entries dropped, ${count(queued)} repositories queued to be fetched anew`,
  )
  return EXIT.done
}

function explain({ settings }: Session, { stream, role }: Reading, to: Options['to']): string[] {
  if (to === 'start') {
    return [
      'From the start: every entry is handed out again, the pending ones too. Nothing is lost: what was applied is not in the stream any more,',
      'and applying an event twice changes nothing. What was counted of tries and deaths is forgotten.',
    ]
  }
  const lost = 'To the end: what waits is dropped and NEVER applied.'
  if (role === 'backfiller') {
    return [
      lost,
      'The repositories are not fetched until a sweep finds them (sluice sweep), hours later for those that were just asked for.',
    ]
  }
  if (stream === settings.indexedLabels) {
    return [
      lost,
      `The labels come back only when the labelers are read from their start (DEL ${stream}:cursor:<host>).`,
    ]
  }
  return [
    lost,
    'The accounts that it is about are queued to be fetched anew, which brings records and deletions back; account status is not.',
  ]
}

/**
 * Drops every entry, page by page. The repositories of the accounts in a page are requested before the page is dropped.
 */
async function skip(session: Session, redis: Redis, { stream, role }: Reading): Promise<number> {
  const isEvents = role === 'indexer' && stream !== session.settings.indexedLabels
  const asked = new Set<string>()
  // Producers may append meanwhile: entries that they add are not dropped.
  const [last] = (await classified(redis.xRevRange(stream, '+', '-', { COUNT: 1 }))) ?? []
  for (;;) {
    const page = last ? await classified(redis.xRange(stream, '-', last.id, { COUNT: PAGE })) : null
    if (page === null || page.length === 0) return asked.size
    const dids = isEvents ? page.flatMap(({ message }) => subjectOf(message).did ?? []) : []
    const news = [...new Set(dids)].filter((did) => !asked.has(did))
    // This does not wait for room. Nobody drains the queue while the consumers are stopped, and the page that is
    // dropped is larger than the requests for it.
    await requestRepos(redis, session.settings.backfilled, news.map((did) => ({ did }))) // prettier-ignore
    for (const did of news) asked.add(did)
    await classified(redis.xDel(stream, page.map(({ id }) => id))) // prettier-ignore
  }
}

/**
 * Makes the group anew in one step, so that no consumer finds the stream without its group. The counted deaths are
 * removed too, as the delivery counts are: each entry is handed out as if for the first time.
 */
async function regroup(redis: Redis, reading: Reading): Promise<void> {
  const { stream, group } = reading
  const deaths = [suspectsKey(reading), underWayKey(reading)]
  await classified(redis.multi().xGroupDestroy(stream, group).xGroupCreate(stream, group, '0').del(deaths).exec())
}

/** `sluice backfill`: requests repositories, shows how far the fetches are, cancels requests. */
import type { Command } from 'commander'
import { slices } from '@sluice/runtime/slices.ts'
import { priorityStream, retriesByDidKey, retryKey } from '@sluice/streams/backfill-queue.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { cursorKey } from '@sluice/streams/cursors.ts'
import type { CursorState } from '@sluice/streams/inspect.ts'
import { time } from '../arguments.ts'
import { backfillProgress } from '../backfill-progress.ts'
import { linesOf, requestDids, requestHost, requestSince, type QueueOptions } from '../backfill-requests.ts'
import { CannotError, EXIT, examples, type Add, type Cli } from '../cli.ts'
import { busyHosts, showHosts } from '../host-table.ts'
import { count, duration, oneLine } from '../output.ts'
import { inspectHosts, inspectSetAside } from '../redis-state.ts'
import type { Session } from '../session.ts'
import { inspectSystem } from '../system-state.ts'
import { listerRuns } from './sweep.ts'

export const addBackfill: Add = (cli, parent) => {
  const backfill = parent.command('backfill').description('ask for repositories to be fetched, and see how far that is')
  backfill.addHelpText(
    'after',
    examples(
      ['sluice backfill did did:plc:… did:plc:…', 'these accounts, before all others'],
      ['sluice backfill file dids.txt --normal', 'one DID a line, behind what waits already'],
      ['sluice backfill host pds.example.com', 'every account of a host'],
      [
        'sluice backfill since 2026-11-01T09:30:00Z',
        'every account that has committed since, for an index that may lack it',
      ],
      ['sluice backfill all --yes', 'enumerate the relays, or their hosts, anew from the first page'],
      ['sluice backfill status', 'what waits, where it is held up'],
    ),
  )
  const normal = ['--normal', 'behind what waits already; default: before it'] as const
  backfill
    .command('did')
    .description('fetch these accounts anew')
    .argument('<dids...>')
    .option(...normal)
    .action((dids: string[], options: QueueOptions) => cli.run((session) => requestDids(session, dids, options)))
  backfill
    .command('file')
    .description('fetch the accounts of a file anew, one DID a line; - reads the standard input')
    .argument('<path>')
    .option(...normal)
    .action((path: string, options: QueueOptions) => cli.run((session) => requestDids(session, linesOf(path), options)))
  backfill
    .command('host')
    .description('fetch every account of a host anew')
    .argument('<host>', 'a PDS, e.g. pds.example.com')
    .option(...normal)
    .action((host: string, options: QueueOptions) => cli.run((session) => requestHost(session, host, options)))
  backfill
    .command('since')
    .description('fetch every account anew that has committed since this time, as far as the ingester has read')
    .argument(
      '<time>',
      'such as 2026-11-01T09:30:00Z; take a margin, since commits have the clocks of their hosts',
      time,
    )
    .option(...normal)
    .action((since: string, options: QueueOptions) => cli.run((session) => requestSince(session, since, options)))
  addWhole(cli, backfill)
}

function addWhole(cli: Cli, backfill: Command): void {
  backfill
    .command('all')
    .description(
      'enumerate the relays, or their hosts, anew from the first page; what is complete is not fetched again',
    )
    .option('--yes', 'do it')
    .action((options: { yes?: boolean }) => cli.run((session) => enumerate(session, options)))
  backfill
    .command('status')
    .description('show what waits, what is under way, and which hosts hold it up')
    .action(() => cli.run(status))
  backfill
    .command('cancel')
    .description(
      'take back what waits: in the priority queue, or with --normal in the other; what is under way is finished',
    )
    .option('--normal', 'the queue of enumeration and the live stream: what is dropped there comes back with a sweep')
    .option('--retries', 'also what waits for another try')
    .option('--yes', 'do it')
    .action((options: QueueOptions & { retries?: boolean; yes?: boolean }) =>
      cli.run((session) => cancel(session, options)),
    )
}

/**
 * Keys or entries in one Redis command: the hosts of a network have thousands of cursors, and a queue a million
 * entries.
 */
const AT_ONCE = 1_000

/** Deletes the cursors of the listing: the ingester begins at the first page when it starts. */
async function enumerate(session: Session, { yes = false }: { yes?: boolean }): Promise<void> {
  const { out, settings } = session
  const redis = await session.redis()
  const stream = settings.streams.repo
  const system = await inspectSystem(session)
  if (!system.redis.state) throw new CannotError(system.redis.away ?? 'Redis is away')
  // The cursors of the relays, and with INGESTER_REPO_SOURCE=hosts those of their hosts. While the cursor of a host is
  // there, the host is not listed again.
  const held = system.redis.state.cursors.filter((cursor) => cursor.stream === stream)
  if (!yes) {
    out.document({ cursors: held.length, done: false })
    out.line(`would remove ${count(held.length)} cursors${held.length > 0 ? `: ${named(held)}` : ''}`)
    out.line(
      'Every repository is listed again; only those that were never fetched whole, or are missing something, are requested.',
    )
    out.line(
      'Nothing was done; add --yes to do it, with the ingester stopped (it holds the cursor in memory), then start it.',
    )
    return
  }
  if (listerRuns(system) === true) {
    throw new CannotError('stop the ingester first (INGESTER_MODE all or backfill): it holds the cursor in memory, and would stop with a conflict. For a running one: sluice sweep') // prettier-ignore
  }
  const keys = held.map(({ host }) => cursorKey(stream, host))
  let removed = 0
  for (const some of slices(keys, AT_ONCE)) removed += await classified(redis.del(some))
  out.document({ cursors: held.length, done: true, removed })
  out.line(`${count(removed)} cursors removed; start the ingester, it lists every repository from the first page`)
}

const CURSORS_SHOWN = 3

function named(cursors: readonly CursorState[]): string {
  const shown = cursors
    .slice(0, CURSORS_SHOWN)
    .map(({ stream, host, cursor }) => `${cursorKey(stream, host)} (now ${oneLine(cursor, 40)})`)
  const more = cursors.length - shown.length
  return `${shown.join(', ')}${more > 0 ? ` and ${count(more)} more` : ''}`
}

async function status(session: Session): Promise<number> {
  const { out, settings } = session
  const redis = await session.redis()
  const state = await inspectSystem(session)
  if (!state.redis.state) throw new CannotError(state.redis.away ?? 'Redis is away')
  const { backfill, streams, sweep: sweepState } = state.redis.state
  const [hosts, setAside] = await Promise.all([
    inspectHosts(redis, settings.backfilled),
    inspectSetAside(redis, settings.backfilled),
  ])
  const own = streams.filter(({ stream }) => stream.startsWith(backfill.stream))
  const underWay = own.flatMap(({ groups }) => groups).reduce((sum, { pending }) => sum + pending, 0)
  const dead = Object.entries(mergeCounts(own.map(({ deadLetters }) => deadLetters.reasons)))
  const progress = backfillProgress(state.daemons)
  out.document({
    ...backfill,
    underWay,
    dead: Object.fromEntries(dead),
    setAside,
    sweep: sweepState,
    hosts,
    ...(progress && { progress }),
  })
  out.line(`queued      ${count(backfill.normal)} (${count(backfill.priority)} more before all others)`)
  out.line(`under way   ${count(underWay)} of these are taken by a backfiller`)
  out.line(
    `for later   ${count(backfill.retries)}, the next in ${duration(backfill.nextRetrySeconds)}${backfill.overdue > 0 ? `, ${count(backfill.overdue)} are overdue` : ''}`,
  )
  out.line(`given up    ${dead.map(([reason, letters]) => `${count(letters)} ${reason}`).join(', ') || '0'}`)
  tellSetAside(session, setAside)
  if (progress) {
    out.line(
      `done        ${count(progress.done)} by the backfillers that run, ${count(progress.givenUp)} given up; empty in ${duration(progress.etaSeconds)}`,
    )
  }
  out.line(`sweep       ${sweepState.demand ?? 'none wanted'}; the last one ended ${sweepState.ended ?? 'never'}`)
  out.line()
  showHosts(out, busyHosts(hosts).slice(0, 20))
  return EXIT.done
}

const SET_ASIDE_SHOWN = 5

/** One line, when there are any: repositories of owners that have too many dead letters. */
function tellSetAside({ out }: Session, setAside: Readonly<Record<string, number>>): void {
  const all = Object.entries(setAside).toSorted(([, a], [, b]) => b - a)
  if (all.length === 0) return
  const total = all.reduce((sum, [, repos]) => sum + repos, 0)
  const shown = all.slice(0, SET_ASIDE_SHOWN).map(([name, repos]) => `${count(repos)} ${oneLine(name, 80)}`)
  const more = all.length > shown.length ? ', …' : ''
  out.line(`set aside   ${count(total)} without a dead letter, since their owner has many: ${shown.join(', ')}${more}`)
  out.line('            when a host is mended: sluice backfill host <host>')
}

function mergeCounts(all: readonly Record<string, number>[]): Record<string, number> {
  const merged: Record<string, number> = {}
  for (const counts of all) for (const [key, n] of Object.entries(counts)) merged[key] = (merged[key] ?? 0) + n
  return merged
}

/** Removes entries that no consumer holds yet. A sweep or the operator requests their repositories again. */
async function cancel(
  session: Session,
  { normal = false, retries = false, yes = false }: QueueOptions & { retries?: boolean; yes?: boolean },
): Promise<void> {
  const { out, settings } = session
  const redis = await session.redis()
  const stream = normal ? settings.backfilled : priorityStream(settings.backfilled)
  const [waiting, later] = [
    await undelivered(redis, stream, settings.groups.repos),
    retries ? await classified(redis.zCard(retryKey(stream))) : 0,
  ]
  if (!yes) {
    out.document({ stream, wouldCancel: waiting.length + later })
    out.line(
      `would take back ${count(waiting.length)} entries of ${stream}${retries ? ` and ${count(later)} later tries` : ''}`,
    )
    out.line('Nothing was done; add --yes to do it.')
    return
  }
  let cancelled = 0
  for (const some of slices(waiting, AT_ONCE)) cancelled += await classified(redis.xDel(stream, some))
  if (retries) await classified(redis.del([retryKey(stream), retriesByDidKey(stream)]))
  out.document({ stream, cancelled: cancelled + later })
  out.line(`took back ${count(cancelled + later)} entries of ${stream}`)
}

/** Ids of the entries that no consumer holds. An entry that was handed out is finished by its consumer. */
async function undelivered(redis: Redis, stream: string, group: string): Promise<string[]> {
  const groups = (await classified(redis.exists(stream))) === 0 ? [] : await classified(redis.xInfoGroups(stream))
  const last = groups.find(({ name }) => name === group)?.['last-delivered-id'] ?? '0-0'
  const ids: string[] = []
  for (let start = `(${last}`; ;) {
    const page = (await classified(redis.xRange(stream, start, '+', { COUNT: AT_ONCE }))) ?? []
    ids.push(...page.map(({ id }) => id))
    if (page.length < AT_ONCE) return ids
    start = `(${page.at(-1)!.id}`
  }
}

/**
 * `sluice pending`: shows the entries that consumers hold, and hands entries of dead consumers to living ones. Nothing
 * is acked here.
 */
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { listPending, type PendingEntry } from '@sluice/streams/pending.ts'
import { wholeNumber } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { readingsOf, type Reading } from '../config.ts'
import { hasGroup, holdersOf, type Holder } from '../groups.ts'
import { count, duration, oneLine } from '../output.ts'
import { readingNamed } from '../reading-named.ts'
import type { Session } from '../session.ts'
import { describeSubject, subjectOf } from '../subject.ts'

const PAGE = 500

export const addPending: Add = (cli, parent) => {
  const pending = parent
    .command('pending')
    .description('look at what was handed out and not acked, and hand over what the dead left')
  pending.addHelpText(
    'after',
    examples(
      ['sluice pending list', 'the oldest pending entries of every stream'],
      ['sluice pending list firehose_live --consumer two', 'what one consumer holds'],
      ['sluice pending reclaim firehose_live', 'hand entries of dead consumers to a living one, now'],
    ),
  )
  pending
    .command('list')
    .description('list pending entries, oldest first')
    .argument('[stream]', 'default: all')
    .option('--consumer <consumer>', 'only of this consumer')
    .option('-n, --count <count>', 'how many to show of each stream', wholeNumber(1), 20)
    .action((stream: string | undefined, options: { consumer?: string; count: number }) =>
      cli.run((session) => list(session, stream, options.consumer, options.count)),
    )
  pending
    .command('reclaim')
    .description('hand the entries of consumers that are dead to a living one of the same group')
    .argument('<stream>')
    .option('--consumer <consumer>', 'only what this one left; default: every dead one')
    .action((stream: string, options: { consumer?: string }) =>
      cli.run((session) => reclaim(session, readingNamed(session.settings, stream), options.consumer)),
    )
}

async function list(
  session: Session,
  stream: string | undefined,
  consumer: string | undefined,
  shown: number,
): Promise<void> {
  const { out, settings } = session
  const readings = stream === undefined ? readingsOf(settings) : [readingNamed(settings, stream)]
  const redis = await session.redis()
  const found = []
  for (const { stream: name, group } of readings) {
    const query = { idleMs: 0, count: shown, ...(consumer !== undefined && { consumer }) }
    for (const entry of await pendingOf(redis, name, group, query)) {
      const [body] = (await redis.xRange(name, entry.id, entry.id)) ?? []
      found.push({
        stream: name,
        group,
        ...entry,
        about: body ? describeSubject(subjectOf(body.message)) : 'deleted from the stream',
      })
    }
  }
  out.document(found)
  const rows = found.map((entry) => [
    entry.stream,
    entry.id,
    entry.consumer,
    duration(entry.idleMs / 1_000),
    count(entry.deliveries),
    oneLine(entry.about, 100),
  ])
  out.table(['stream', 'id', 'consumer', 'idle', 'deliveries', 'about'], rows, 'nothing is pending')
}

async function reclaim(session: Session, reading: Reading, only: string | undefined): Promise<number> {
  const { out } = session
  const redis = await session.redis()
  const { stream, group } = reading
  const holders = await holdersOf(redis, reading)
  const dead = holders.filter(
    (h) => h.process === undefined && h.pending > 0 && (only === undefined || h.consumer === only),
  )
  const heir = holders.find((h) => h.process !== undefined)
  assertAlive(only, holders, reading)
  if (dead.length === 0) {
    out.document({ stream, group, reclaimed: 0 })
    out.line(`${stream}: no dead consumer of ${group} holds anything`)
    return EXIT.done
  }
  if (heir === undefined) {
    throw new CannotError(
      `no consumer of ${group} is alive on ${stream}: start an ${reading.role}; it takes over by itself what the dead left`,
    )
  }
  let reclaimed = 0
  for (const { consumer } of dead) reclaimed += await handOver(redis, reading, consumer, heir)
  out.document({ stream, group, reclaimed, from: dead.map(({ consumer }) => consumer), to: heir.consumer })
  out.line(
    `${stream}: ${count(reclaimed)} entries of ${dead.map(({ consumer }) => consumer).join(', ')} belong to ${heir.consumer} (${heir.process}) now; it takes them up within half a minute`,
  )
  return EXIT.done
}

function assertAlive(only: string | undefined, holders: readonly Holder[], { stream, group }: Reading): void {
  const named = holders.find(({ consumer }) => consumer === only)
  if (only === undefined || named?.process === undefined) return
  throw new CannotError(
    `consumer ${only} of ${group} on ${stream} is alive (${named.process}): stop that process first, else both would work on the same entries`,
  )
}

/**
 * Hands the entries of a consumer to a living one, which notices entries under its name that it does not know. JUSTID:
 * this counts neither as a delivery nor as a try.
 */
async function handOver(redis: Redis, { stream, group }: Reading, from: string, heir: Holder): Promise<number> {
  let moved = 0
  for (;;) {
    const entries = await pendingOf(redis, stream, group, { idleMs: 0, count: PAGE, consumer: from })
    if (entries.length === 0) return moved
    const ids = entries.map(({ id }) => id)
    const claim = ['XCLAIM', stream, group, heir.consumer, '0', ...ids, 'IDLE', String(RESTED_MS), 'JUSTID']
    moved += (await classified(redis.sendCommand<string[]>(claim))).length
  }
}

/** The idle time that such entries get: long enough for any consumer to see that nobody is working on them. */
const RESTED_MS = 3_600_000

async function pendingOf(
  redis: Redis,
  stream: string,
  group: string,
  query: Parameters<typeof listPending>[2],
): Promise<PendingEntry[]> {
  return (await hasGroup(redis, stream, group)) ? listPending(redis, { stream, group, consumer: '' }, query) : []
}

/** `sluice status`: the state of the whole system, on one screen. */
import { setTimeout as delay } from 'node:timers/promises'
import type { CursorState } from '@sluice/streams/inspect.ts'
import type { StreamState } from '@sluice/streams/stream-state.ts'
import { positive, wholeNumber } from '../arguments.ts'
import { backfillProgress, type BackfillProgress } from '../backfill-progress.ts'
import { EXIT, examples, type Add } from '../cli.ts'
import { busyHosts, showHosts } from '../host-table.ts'
import { bytes, count, duration, oneLine, type Output } from '../output.ts'
import { inspectHosts, readTraffic, type HostState, type Traffic } from '../redis-state.ts'
import type { Session } from '../session.ts'
import { inspectSystem, streamsOf, type SystemState } from '../system-state.ts'

/** Entries a second. The ETA is in seconds until the stream is empty; undefined when the stream does not shrink. */
export interface Rate {
  in: number
  out: number
  etaSeconds?: number
}

const SAMPLE_MS = 1_000

export const addStatus: Add = (cli, parent) => {
  parent
    .command('status')
    .description('show streams, groups, consumers, cursors, backfill, dead letters, tables and incidents')
    .option('-w, --watch [seconds]', 'show it again and again', positive)
    .option('--tables <count>', 'how many tables to show', wholeNumber(0), 8)
    .addHelpText(
      'after',
      examples(
        ['sluice status', 'everything, with rates over one second'],
        ['sluice status --watch 5', 'every five seconds, until Ctrl-C'],
        ['sluice status --json | jq .redis.state.streams', 'for programs'],
      ),
    )
    .action(({ watch, tables }: { watch?: number | true; tables: number }) =>
      cli.run((session) => (watch === undefined ? once(session, tables) : again(session, watch, tables)), {
        endless: watch !== undefined,
      }),
    )
}

async function again(session: Session, watch: number | true, tables: number): Promise<void> {
  const seconds = watch === true ? 2 : Math.max(1, watch)
  while (!session.signal.aborted) {
    // The screen is cleared only when the new one is ready, so that it does not flicker.
    await once(session, tables, session.out.json ? '' : '\u001b[2J\u001b[H')
    await delay(seconds * 1_000, undefined, { signal: session.signal })
  }
}

async function once(session: Session, tables: number, before = ''): Promise<number> {
  const first = await traffic(session)
  if (first) await delay(SAMPLE_MS, undefined, { signal: session.signal })
  const [state, second] = await Promise.all([inspectSystem(session), traffic(session)])
  const rates = ratesOf(first, second)
  const hosts = state.redis.state ? await inspectHosts(await session.redis(), session.settings.backfilled) : []
  session.out.raw(before)
  const progress = backfillProgress(state.daemons)
  session.out.document({ ...publicState(state), rates, hosts, ...(progress && { progress }) })
  showRedis(session, state, rates)
  showBackfill(session, state, hosts, progress)
  showTables(session, state, tables)
  showDaemons(session, state)
  showIncidents(session, state)
  const away = [state.redis, state.postgres].filter((look) => look?.away !== undefined)
  if (away.length === 0) return EXIT.done
  return away.some((look) => look && 'refuses' in look) ? EXIT.config : EXIT.away
}

async function traffic(session: Session): Promise<Traffic | undefined> {
  try {
    return await readTraffic(await session.redis(), streamsOf(session.settings))
  } catch {
    return undefined // `inspectSystem` reports that Redis is away
  }
}

function ratesOf(first: Traffic | undefined, second: Traffic | undefined): Map<string, Rate> {
  if (!first || !second) return new Map()
  const seconds = Math.max(0.001, (second.atMs - first.atMs) / 1_000)
  return new Map(
    [...second.streams].map(([stream, { added, gone }]): [string, Rate] => {
      const before = first.streams.get(stream) ?? { added, gone }
      const rate = { in: Math.max(0, added - before.added) / seconds, out: Math.max(0, gone - before.gone) / seconds }
      const shrink = rate.out - rate.in
      return [stream, shrink > 0 ? { ...rate, etaSeconds: (added - gone) / shrink } : rate]
    }),
  )
}

/** The state without the settings, whose URLs contain passwords. */
function publicState({ time, redis, postgres, daemons, unknownVariables }: SystemState): Omit<SystemState, 'settings'> {
  return { time, redis, postgres, daemons, unknownVariables }
}

function showRedis(session: Session, { redis, settings }: SystemState, rates: ReadonlyMap<string, Rate>): void {
  const { out } = session
  out.heading('Redis')
  if (redis.away !== undefined) return out.line(`  ${out.paint('bad', redis.away)}\n`)
  const { server, streams, cursors, connection } = redis.state
  const { usedBytes, maxBytes } = server.memory
  const limit = maxBytes === 0 ? 'no maxmemory' : `${bytes(maxBytes)} (${Math.round(server.memory.ratio * 100)} %)`
  out.line(
    `  ${session.redisPlace}  ${server.version}  ${bytes(usedBytes)} of ${limit}  up ${duration(server.uptimeSeconds)}  answers in ${connection.latencyMs.toFixed(1)} ms`,
  )
  showStreams(out, streams, settings.highWater, rates)
  showConsumers(out, streams)
  showDeadLetters(out, streams)
  showCursors(out, cursors)
}

function showStreams(
  out: Output,
  streams: readonly StreamState[],
  highWater: ReadonlyMap<string, number>,
  rates: ReadonlyMap<string, Rate>,
): void {
  const rows = streams.map(({ stream, error, entries, bytes: size, lagSeconds, deadLetters, groups }) => {
    const isAtMark = entries >= (highWater.get(stream) ?? Infinity)
    const rate = rates.get(stream)
    return [
      error ? `${stream} (${oneLine(error, 60)})` : stream,
      out.paint(entries === 0 ? 'faint' : isAtMark ? 'bad' : 'strong', count(entries)),
      bytes(size),
      groups.length === 0 && entries === 0 ? '-' : duration(lagSeconds),
      count(groups.reduce((sum, { pending }) => sum + pending, 0)),
      rate ? count(rate.in) : '-',
      rate ? count(rate.out) : '-',
      duration(rate?.etaSeconds),
      deadLetters.total > 0 ? out.paint('warn', count(deadLetters.total)) : '0',
    ]
  })
  out.table(['stream', 'entries', 'memory', 'lag', 'pending', 'in/s', 'out/s', 'empty in', 'dead'], rows)
  out.line()
}

function showConsumers(out: Output, streams: readonly StreamState[]): void {
  const rows = streams.flatMap(({ stream, groups }) =>
    groups.flatMap(({ group, consumers }) =>
      consumers.map(({ consumer, pending, oldestPending, idleSeconds, holder }) => [
        stream,
        group,
        consumer,
        count(pending),
        duration(oldestPending?.ageSeconds),
        duration(idleSeconds),
        holder ?? out.paint('warn', 'nobody alive'),
      ]),
    ),
  )
  out.table(['stream', 'group', 'consumer', 'pending', 'oldest', 'idle', 'process'], rows, 'no consumers')
  out.line()
}

function showDeadLetters(out: Output, streams: readonly StreamState[]): void {
  const rows = streams.flatMap(({ stream, deadLetters }) =>
    Object.entries(deadLetters.reasons).map(([reason, letters]) => [stream, reason, count(letters)]),
  )
  if (rows.length === 0) return
  out.heading('Dead letters')
  out.table(['stream', 'reason', 'entries'], rows)
  out.line()
}

function showCursors(out: Output, cursors: readonly CursorState[]): void {
  out.heading('Cursors')
  const rows = cursors.map(({ stream, host, cursor, ageSeconds, isDone }) => [
    stream,
    host,
    isDone ? 'all listed' : oneLine(cursor, 40),
    duration(ageSeconds),
  ])
  out.table(['stream', 'host', 'cursor', 'age'], rows, 'nothing was read yet')
  out.line()
}

function showBackfill(
  { out }: Session,
  { redis }: SystemState,
  hosts: readonly HostState[],
  progress: BackfillProgress | undefined,
): void {
  if (!redis.state) return
  const { backfill, streams, sweep } = redis.state
  const queues = streams.filter(({ stream }) => stream.startsWith(backfill.stream))
  const taken = queues.flatMap(({ groups }) => groups).reduce((sum, { pending }) => sum + pending, 0)
  const givenUp = queues.reduce((sum, { deadLetters }) => sum + deadLetters.total, 0)
  out.heading('Backfill')
  out.line(
    `  ${count(backfill.normal)} queued, ${count(backfill.priority)} with priority, of these ${count(taken)} taken; ` +
      `${count(backfill.retries)} for later (next in ${duration(backfill.nextRetrySeconds)}); ${count(givenUp)} given up`,
  )
  if (progress) {
    out.line(
      `  by the backfillers that run: ${count(progress.done)} done, ${count(progress.givenUp)} given up; empty in ${duration(progress.etaSeconds)}`,
    )
  }
  out.line(`  sweep: ${sweep.demand ?? 'none wanted'}; the last one ended ${sweep.ended ?? 'never'}`)
  const busy = busyHosts(hosts)
  if (busy.length > 0) showHosts(out, busy.slice(0, 10))
  out.line()
}

function showTables({ out, postgresPlace }: Session, { postgres }: SystemState, tables: number): void {
  out.heading('PostgreSQL')
  if (postgres === undefined) return out.line(`  ${out.paint('faint', 'DB_POSTGRES_URL is not set')}\n`)
  if (postgres.away !== undefined) return out.line(`  ${out.paint('bad', postgres.away)}\n`)
  const { state } = postgres
  out.line(
    `  ${postgresPlace}  ${state.version}  schema ${state.schema}  ${bytes(state.bytes)}  ` +
      `${state.connections.used} of ${state.connections.max} connections  answers in ${state.latencyMs.toFixed(1)} ms`,
  )
  if (state.pendingMigrations.length > 0) {
    out.line(`  ${out.paint('bad', `migrations pending: ${state.pendingMigrations.join(', ')} (sluice migrate)`)}`)
  }
  if (state.bulkPhase !== undefined) {
    out.line(`  ${out.paint('warn', `a first load is ${state.bulkPhase} (sluice bulk status)`)}`)
  }
  const rows = state.tables
    .slice(0, tables)
    .map((table) => [
      table.name,
      count(table.rows),
      bytes(table.bytes),
      count(table.deadRows),
      table.lastVacuum?.slice(0, 16) ?? 'never',
    ])
  out.table(['table', 'rows (about)', 'size', 'dead rows', 'vacuumed'], rows, 'no tables')
  out.line()
}

function showDaemons({ out }: Session, { daemons }: SystemState): void {
  if (daemons.length === 0) return
  out.heading('Daemons')
  const rows = daemons.map(({ url, role, build, uptimeSeconds, ready, reasons = [], silent }) => [
    url,
    role ?? '?',
    build ?? '?',
    duration(uptimeSeconds),
    silent === undefined
      ? ready
        ? 'ready'
        : out.paint('bad', oneLine(reasons.join('; ')))
      : out.paint('bad', oneLine(silent)),
  ])
  out.table(['address', 'role', 'build', 'up', 'state'], rows)
  out.line()
}

function showIncidents({ out }: Session, { redis }: SystemState): void {
  if (!redis.state || redis.state.incidents.total === 0) return
  const { total, newest } = redis.state.incidents
  out.heading(`Incidents: ${count(total)} (sluice incidents list)`)
  out.table(
    ['time', 'kind', 'who', 'what'],
    newest.slice(0, 5).map(({ time, kind, role, what }) => [time.slice(0, 19), kind, role, oneLine(what, 100)]),
  )
}

/** `sluice status`: where everything stands, on one screen. */
import { setTimeout as delay } from 'node:timers/promises'
import { EXIT, examples, type Add } from '../cli.ts'
import { bytes, count, duration, oneLine } from '../output.ts'
import { inspectHosts, readTraffic, type Traffic } from '../redis-state.ts'
import type { Session } from '../session.ts'
import { inspectSystem, streamsOf, type SystemState } from '../system-state.ts'

/** Entries a second; ETA in seconds until the stream is empty, undefined when it does not shrink. */
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
    .option('-w, --watch [seconds]', 'show it again and again')
    .option('--tables <count>', 'how many tables to show', '8')
    .addHelpText(
      'after',
      examples(
        ['sluice status', 'everything, with rates over one second'],
        ['sluice status --watch 5', 'every five seconds, until Ctrl-C'],
        ['sluice status --json | jq .redis.state.streams', 'for programs'],
      ),
    )
    .action(({ watch, tables }: { watch?: string | true; tables: string }) =>
      cli.run(
        (session) => (watch === undefined ? once(session, Number(tables)) : again(session, watch, Number(tables))),
        { endless: watch !== undefined },
      ),
    )
}

async function again(session: Session, watch: string | true, tables: number): Promise<void> {
  const seconds = watch === true ? 2 : Math.max(1, Number(watch) || 2)
  while (!session.signal.aborted) {
    // The screen is cleared when the new one is ready, so that it does not flicker.
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
  session.out.document({ ...publicState(state), rates, hosts })
  showStreams(session, state, rates)
  showBackfill(session, state, hosts)
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
    return undefined // that it is away is told by the look at everything
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

/** Settings hold addresses with passwords. */
function publicState({ time, redis, postgres, daemons, unknownVariables }: SystemState): Omit<SystemState, 'settings'> {
  return { time, redis, postgres, daemons, unknownVariables }
}

function showStreams({ out, redisPlace }: Session, { redis, settings }: SystemState, rates: Map<string, Rate>): void {
  out.heading('Redis')
  if (redis.away !== undefined) return out.line(`  ${out.paint('bad', redis.away)}\n`)
  const { server, streams, cursors, connection } = redis.state
  const { usedBytes, maxBytes } = server.memory
  const limit = maxBytes === 0 ? 'no maxmemory' : `${bytes(maxBytes)} (${Math.round(server.memory.ratio * 100)} %)`
  out.line(
    `  ${redisPlace}  ${server.version}  ${bytes(usedBytes)} of ${limit}  up ${duration(server.uptimeSeconds)}  answers in ${connection.latencyMs.toFixed(1)} ms`,
  )
  const rows = streams.map((stream) => {
    const { entries, lagSeconds, deadLetters, groups } = stream
    const mark = settings.highWater.get(stream.stream)
    const full = mark !== undefined && entries >= mark ? 'bad' : 'strong'
    const rate = rates.get(stream.stream)
    return [
      stream.error ? `${stream.stream} (${oneLine(stream.error, 60)})` : stream.stream,
      out.paint(entries > 0 ? full : 'faint', count(entries)),
      bytes(stream.bytes),
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
  const consumers = streams.flatMap(({ stream, groups }) =>
    groups.flatMap(({ group, oldestPending, consumers: members }) =>
      members.map(({ consumer, pending, idleSeconds, holder }) => [
        stream,
        group,
        consumer,
        count(pending),
        oldestPending?.consumer === consumer ? duration(oldestPending.ageSeconds) : '-',
        duration(idleSeconds),
        holder ?? out.paint('warn', 'nobody alive'),
      ]),
    ),
  )
  out.table(['stream', 'group', 'consumer', 'pending', 'oldest', 'idle', 'process'], consumers, 'no consumers')
  out.line()
  const reasons = streams.flatMap(({ stream, deadLetters }) =>
    Object.entries(deadLetters.reasons).map(([reason, letters]) => [stream, reason, count(letters)]),
  )
  if (reasons.length > 0) {
    out.heading('Dead letters')
    out.table(['stream', 'reason', 'entries'], reasons)
    out.line()
  }
  out.heading('Cursors')
  const places = cursors.map(({ stream, host, cursor, ageSeconds, isDone }) => [
    stream,
    host,
    isDone ? 'all listed' : oneLine(cursor, 40),
    duration(ageSeconds),
  ])
  out.table(['stream', 'host', 'cursor', 'age'], places, 'nothing was read yet')
  out.line()
}

function showBackfill({ out }: Session, { redis }: SystemState, hosts: Awaited<ReturnType<typeof inspectHosts>>): void {
  if (!redis.state) return
  const { backfill, streams, sweep } = redis.state
  const pending = streams.filter(({ stream }) => stream.startsWith(backfill.stream)).flatMap(({ groups }) => groups)
  const inFlight = pending.reduce((sum, group) => sum + group.pending, 0)
  const dead = streams.filter(({ stream }) => stream.startsWith(backfill.stream))
  out.heading('Backfill')
  out.line(
    `  ${count(backfill.normal)} queued, ${count(backfill.priority)} with priority, of these ${count(inFlight)} taken; ` +
      `${count(backfill.retries)} for later (next in ${duration(backfill.nextRetrySeconds)}); ` +
      `${count(dead.reduce((sum, { deadLetters }) => sum + deadLetters.total, 0))} given up`,
  )
  out.line(`  sweep: ${sweep.demand ?? 'none wanted'}; the last one ended ${sweep.ended ?? 'never'}`)
  const troubled = hosts.filter(({ underWay, parkedSeconds, failures }) => underWay + parkedSeconds + failures > 0)
  if (troubled.length > 0) {
    out.table(
      ['host', 'under way', 'parked for', 'failures'],
      troubled
        .slice(0, 10)
        .map((host) => [host.host, host.underWay, duration(host.parkedSeconds || undefined), host.failures]),
    )
  }
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

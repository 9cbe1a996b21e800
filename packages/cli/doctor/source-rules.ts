/** What can be wrong with the sources of data: ingester, relays, labelers, repositories. */
import { ingesterClientName } from '@sluice/streams/client-names.ts'
import { hostOf } from '@sluice/streams/cursors.ts'
import { heldBack, valuesOf } from '../daemon-state.ts'
import { count, duration, oneLine } from '../output.ts'
import type { SystemState } from '../system-state.ts'
import type { Finding, Rule } from './finding.ts'

/** Names of the connections of ingesters of our shard that read the relays. */
const readerNames = ({ settings }: SystemState): string[] =>
  ['all', 'firehose'].map((mode) => ingesterClientName(mode, settings.shard))

/**
 * Whether such an ingester is connected to this Redis; undefined when Redis does not tell which clients are connected.
 */
const readerRuns = (system: SystemState): boolean | undefined =>
  system.redis.state?.connection.clients?.some(({ name }) => readerNames(system).includes(name))

export const ingesterStopped: Rule = (system) => {
  const wasRead = system.redis.state?.cursors.filter(({ stream }) => stream === system.settings.streams.live) ?? []
  if (wasRead.length === 0 || readerRuns(system) !== false) return []
  return [
    {
      id: 'ingester-stopped',
      severity: 'broken',
      what: 'no ingester that reads the relays is connected',
      evidence: `there are cursors (${wasRead.map(({ host }) => host).join(', ')}), and no ${readerNames(system).join(' or ')} among the clients of Redis`,
      meaning:
        'The relay keeps its events for some days; what is older when the ingester is back has to be fetched repository by repository.',
      mend: 'start the ingester with INGESTER_MODE all or firehose (docker compose up -d ingester); if it runs, look at its /ready and its log',
    },
  ]
}

export const relayDisconnected: Rule = ({ daemons, settings }) => {
  // An ingester that has had no room for longer than INGESTER_PAUSE_MS has left its relays by itself. The finding
  // `backpressure` reports that, and neither DNS nor the relay is at fault.
  const holding = new Set(heldBack(daemons, settings.streams.live).map(({ url }) => url))
  return valuesOf(daemons, 'sluice_ingester_connected')
    .filter(({ value, url }) => value === 0 && !holding.has(url))
    .map(({ labels, url }) => ({
      id: 'relay-disconnected',
      severity: 'broken',
      what: `the relay ${labels.host} is not connected`,
      evidence: `sluice_ingester_connected is 0 at ${url}`,
      meaning:
        'No live events come from it. The ingester tries again by itself; nothing is lost for as long as the relay keeps its events.',
      mend: 'look at the log of the ingester for the reason; check RELAY_HOSTS, DNS and the way out (curl https://<relay>/xrpc/_health)',
    }))
}

/**
 * Whether a daemon that answers reports that this host is connected. Then an old event there only means that the host
 * is quiet.
 */
const isConnected = ({ daemons }: SystemState, metric: string, host: string): boolean =>
  valuesOf(daemons, metric).some(({ labels, value }) => labels.host === host && value > 0)

export const cursorOld: Rule = (system, { cursorSeconds }) => {
  const { redis, settings } = system
  return (redis.state?.cursors ?? []).flatMap(({ stream, host, ageSeconds = 0, cursor }): Finding[] => {
    const isRead = settings.relays.some((relay) => hostOf(relay) === host)
    if (stream !== settings.streams.live || !isRead || ageSeconds < cursorSeconds) return []
    if (isConnected(system, 'sluice_ingester_connected', host)) return []
    const evidence = `cursor ${cursor} of ${stream} is ${duration(ageSeconds)} old`
    // A PDS that serves as a relay may be silent for days. Whether it is connected, only the ingester's metrics tell.
    return readerRuns(system) === true
      ? [
          {
            id: 'cursor-old',
            severity: 'warning',
            what: `nothing has come from ${host} for ${duration(ageSeconds)}`,
            evidence: `${evidence}; an ingester is connected to Redis`,
            meaning:
              'A large relay is never silent for so long. A host with few accounts may be, and then nothing is wrong.',
            mend: 'name the ingester in SLUICE_DAEMONS: while it says that the host is connected, this is not reported; or look at sluice_ingester_connected and its log',
          },
        ]
      : [
          {
            id: 'cursor-old',
            severity: 'broken',
            what: `the cursor of ${host} is older than the relay may remember`,
            evidence,
            meaning: 'Relays keep about three days. What they have dropped does not come by the live stream any more.',
            mend: 'start the ingester: it goes on at the oldest event there is, and asks for a sweep by itself. Then sluice sweep --status',
          },
        ]
  })
}

export const labelerSilent: Rule = (system, { cursorSeconds }) => {
  const { redis, settings } = system
  const { state } = redis
  if (!state) return []
  const cursors = state.cursors.filter(({ stream }) => stream === settings.streams.label)
  return settings.labelers.flatMap((labeler): Finding[] => {
    const host = hostOf(labeler)
    const cursor = cursors.find((candidate) => candidate.host === host)
    if (cursor && (cursor.ageSeconds ?? 0) < cursorSeconds) return []
    if (isConnected(system, 'sluice_ingester_labelers_connected', host)) return []
    return [
      {
        id: 'labeler-silent',
        severity: 'warning',
        what: `nothing comes from the labeler ${host}`,
        evidence: cursor
          ? `its last label is ${duration(cursor.ageSeconds)} old`
          : `there is no cursor ${settings.streams.label}:cursor:${host}`,
        meaning: 'It has labelled nobody, and nothing is wrong; or moderation that it decided is not applied here.',
        mend: 'name the ingester in SLUICE_DAEMONS: while it says that the labeler is connected, this is not reported. Else: is INGESTER_MODE all or labeler, and the address right? Look at sluice_ingester_labelers_connected and the log of the ingester',
      },
    ]
  })
}

/** Any living backfiller moves due retries within a second. */
export const backfillStalled: Rule = ({ redis }) => {
  const { state } = redis
  if (!state || state.backfill.overdue < 10) return []
  const { overdue, stream } = state.backfill
  if (state.living.some((lease) => lease.stream === stream)) return []
  return [
    {
      id: 'backfill-stalled',
      severity: 'warning',
      what: 'repositories are due to be tried again, and nobody does',
      evidence: `${count(overdue)} entries of ${stream}:retry are overdue`,
      meaning: 'Retries are moved back to their stream by the backfiller, and none runs.',
      mend: 'start the backfiller (docker compose up -d backfiller)',
    },
  ]
}

export const incidents: Rule = ({ redis }) => {
  const { state } = redis
  if (!state || state.incidents.total === 0) return []
  const [newest] = state.incidents.newest
  return [
    {
      id: 'incidents',
      severity: 'warning',
      what: `${count(state.incidents.total)} incidents nobody has seen to`,
      evidence: newest ? oneLine(`the newest: ${newest.kind}, ${newest.what}`, 200) : '',
      meaning: 'Something happened that may have lost or delayed data. What was done about it stands with each.',
      mend: 'sluice incidents list; when they are dealt with: sluice incidents clear',
    },
  ]
}

/** What can be wrong with streams, groups and consumers. */
import { ownerOfClient } from '@sluice/streams/client-names.ts'
import type { GroupState, StreamState } from '@sluice/streams/stream-state.ts'
import { readingsOf, type Reading } from '../config.ts'
import { heldBack } from '../daemon-state.ts'
import { count, duration, oneLine } from '../output.ts'
import type { SystemState } from '../system-state.ts'
import type { Finding, Rule } from './finding.ts'

interface Read extends Reading {
  state: StreamState
  seen: GroupState | undefined
  /** Names of living consumers. */
  living: string[]
}

/** Each reading with the state of its stream; streams that do not exist are left out. */
function readings({ redis, settings }: SystemState): Read[] {
  const { state } = redis
  if (!state) return []
  return readingsOf(settings).flatMap((reading): Read[] => {
    const stream = state.streams.find((candidate) => candidate.stream === reading.stream)
    if (!stream?.exists || stream.error !== undefined) return []
    const seen = stream.groups.find(({ group }) => group === reading.group)
    const living = state.living.filter((l) => l.stream === reading.stream && l.group === reading.group)
    return [{ ...reading, state: stream, seen, living: living.map(({ consumer }) => consumer) }]
  })
}

export const wrongType: Rule = ({ redis }) =>
  (redis.state?.streams ?? []).flatMap(({ stream, error }): Finding[] =>
    error === undefined
      ? []
      : [
          {
            id: 'stream-wrong-type',
            severity: 'broken',
            what: `${stream} is no stream`,
            evidence: oneLine(error, 200),
            meaning: 'Another program uses the same key. Whoever writes or reads it here stops.',
            mend: `give Sluice a Redis database of its own (REDIS_URL=redis://…/1); or, when it is a leftover: redis-cli -u "$REDIS_URL" DEL ${stream}`,
          },
        ],
  )

export const stopped: Rule = (state) =>
  readings(state).flatMap(({ stream, group, role, state: { entries, lagSeconds }, living, seen }): Finding[] => {
    if (living.length > 0 || (entries === 0 && seen === undefined)) return []
    return [
      {
        id: 'consumer-stopped',
        severity: entries > 0 ? 'broken' : 'warning',
        what: `no ${role} reads ${stream}`,
        evidence: `nobody alive in group ${group}; ${count(entries)} entries wait, the oldest for ${duration(lagSeconds)}`,
        meaning:
          'What comes in stays in Redis until it is full, and then upstream waits. Nothing is lost for the days that the relay keeps its events.',
        mend: `start the ${role} (docker compose up -d ${role}); if it runs, look at its /ready and its log: is ${role === 'indexer' ? 'INDEXER_GROUP' : 'BACKFILLER_GROUP'} ${group}?`,
      },
    ]
  })

export const dead: Rule = (state, { deadSeconds }) =>
  readings(state).flatMap(({ stream, group, living, seen }) =>
    (seen?.consumers ?? []).flatMap(({ consumer, pending, idleSeconds, holder }): Finding[] => {
      // When no consumer lives, the group has stopped, which is another finding.
      if (living.length === 0 || holder !== undefined || living.includes(consumer)) return []
      if (pending === 0 || (idleSeconds ?? 0) < deadSeconds) return []
      return [
        {
          id: 'consumer-dead',
          severity: 'warning',
          what: `consumer ${consumer} of ${group} died holding entries of ${stream}`,
          evidence: `${count(pending)} pending, no sign of life for ${duration(idleSeconds)}; alive: ${living.join(', ')}`,
          meaning:
            'The living take them over after INDEXER_RECLAIM_IDLE_MS by themselves. If this stays, they are too busy to.',
          mend: `sluice pending reclaim ${stream}   (or start ${consumer} again)`,
        },
      ]
    }),
  )

/**
 * Each connection of an indexer or a backfiller has a purpose of its own, so two connections with one name belong to
 * two processes.
 */
export const collision: Rule = ({ redis }) => {
  const processes = new Map<string, Set<string>>()
  for (const [name, own] of Map.groupBy(redis.state?.connection.clients ?? [], (client) => client.name)) {
    const owner = ownerOfClient(name)
    if (owner === undefined || own.length < 2) continue
    for (const { address } of own) processes.set(owner, (processes.get(owner) ?? new Set()).add(address))
  }
  return [...processes].map(([owner, addresses]): Finding => {
    return {
      id: 'consumer-collision',
      severity: 'broken',
      what: `several processes call themselves ${owner}`,
      evidence: `connections of the same name from ${[...addresses].slice(0, 4).join(', ')}`,
      meaning:
        'A name belongs to one process: the second one waits for the lease and stops, again and again, so it does no work.',
      mend: `give each process its own ${owner.startsWith('backfiller') ? 'BACKFILLER_CONSUMER' : 'INDEXER_CONSUMER'} (one, two, …)`,
    }
  })
}

export const stuck: Rule = (state, { lagSeconds }) =>
  readings(state).flatMap(({ stream, role, seen, living }): Finding[] => {
    const oldest = seen?.oldestPending
    // A repository may wait hours for its host, so pending entries of a backfiller say nothing.
    if (role === 'backfiller' || !oldest || !living.includes(oldest.consumer)) return []
    if (oldest.ageSeconds < lagSeconds || oldest.deliveries < 2) return []
    return [
      {
        id: 'pending-stuck',
        severity: 'broken',
        what: `an entry of ${stream} does not get done`,
        evidence: `${oldest.id} was handed out ${oldest.deliveries} times, now to ${oldest.consumer}, and is ${duration(oldest.ageSeconds)} old`,
        meaning:
          'It fails and is tried again: either the world is at fault (the database, see its log), or it kills the process, which becomes a dead letter by itself.',
        mend: `look at the log of ${role} ${oldest.consumer}; sluice pending list ${stream}`,
      },
    ]
  })

export const lag: Rule = (state, limits) =>
  readings(state).flatMap(({ stream, living, state: { lagSeconds, entries } }): Finding[] => {
    const { settings } = state
    // Backfill entries normally wait for hours.
    const isLive = stream === settings.streams.live || stream === settings.indexedLabels
    if (!isLive || living.length === 0 || lagSeconds < limits.lagSeconds) return []
    return [
      {
        id: 'lag',
        severity: 'broken',
        what: `the index is ${duration(lagSeconds)} behind on ${stream}`,
        evidence: `${count(entries)} entries wait, the oldest for ${duration(lagSeconds)}; alive: ${living.join(', ')}`,
        meaning: 'The consumers live and do not keep up, or do not get on at all: then the database waits, or is away.',
        mend: 'sluice status --watch: when it shrinks, wait. Else see to PostgreSQL (locks, disk), or add an indexer with a name of its own (INDEXER_CONSUMER=two)',
      },
    ]
  })

export const backpressure: Rule = ({ redis, settings, daemons }) => {
  if (!redis.state) return []
  return redis.state.streams.flatMap(({ stream, entries, lagSeconds }): Finding[] => {
    const mark = settings.highWater.get(stream)
    // The backfill stream is normally at its mark, because the backfiller is faster than any indexer.
    const isBackfill = stream === settings.streams.backfill || stream === settings.streams.repo
    // Once the mark was reached, the producer waits until a fifth has drained. So a producer may wait while the stream
    // is below its mark.
    const [holding] = isBackfill ? [] : heldBack(daemons, stream)
    if (mark === undefined || (entries < mark * (isBackfill ? 1.2 : 1) && !holding)) return []
    const seen = [
      `${count(entries)} entries, the high-water mark is ${count(mark)}; the oldest is ${duration(lagSeconds)} old`,
      ...(holding ? [`sluice_ingester_backpressure{by="${holding.by}"} is 1 at ${holding.url}`] : []),
    ]
    return [
      {
        id: 'backpressure',
        severity: 'broken',
        what: `nothing more is written to ${stream}`,
        evidence: seen.join('; '),
        meaning:
          'The producer waits, and upstream keeps what it does not read. Nothing is lost as long as the relay keeps it. The cause is downstream.',
        mend: `${holding?.by === 'memory' ? 'see to the memory of Redis first (redis-near-limit)' : 'see to the consumers first (sluice doctor names them)'}; then it drains by itself. Never XTRIM`,
      },
    ]
  })
}

export const deadLetters: Rule = ({ redis }) =>
  (redis.state?.streams ?? []).flatMap(({ stream, deadLetters: { total, reasons, cap } }): Finding[] => {
    if (total === 0) return []
    const listed = Object.entries(reasons).map(([reason, letters]) => `${count(letters)} ${reason}`)
    const isFull = total >= cap
    return [
      {
        id: 'dead-letters',
        severity: isFull ? 'broken' : 'warning',
        what: `${count(total)} entries of ${stream} could not be applied`,
        evidence: listed.join(', '),
        meaning: isFull
          ? 'There is no room for more: the stream waits until somebody looks.'
          : 'They wait, and the index lacks them. Their neighbours were applied.',
        mend: `sluice dlq list --stream ${stream}; then sluice dlq retry --stream ${stream} --all, or sluice dlq drop --stream ${stream} --all --yes`,
      },
    ]
  })

export const unknownGroups: Rule = ({ redis, settings }) => {
  const known = readingsOf(settings)
  return (redis.state?.streams ?? []).flatMap(({ stream, groups }) =>
    groups
      .filter(({ group }) => !known.some((reading) => reading.stream === stream && reading.group === group))
      .map(({ group, pending, consumers }): Finding => ({
        id: 'group-unknown',
        severity: 'warning',
        what: `${stream} has a group ${group} that is not ours`,
        evidence: `${consumers.length} consumers, ${count(pending)} pending; ours is ${known.find((r) => r.stream === stream)?.group ?? 'none'}`,
        meaning:
          'Entries are deleted once our group has acked them: another group misses some. Or a group was renamed, and this is what is left.',
        mend: `correct INDEXER_GROUP, INDEXER_LABEL_GROUP or BACKFILLER_GROUP; or, when nobody uses it: redis-cli -u "$REDIS_URL" XGROUP DESTROY ${stream} ${group}`,
      })),
  )
}

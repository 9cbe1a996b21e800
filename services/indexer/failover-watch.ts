/**
 * Notices that the address of PostgreSQL leads to a server that was promoted or restored since it was looked at last:
 * its WAL is on another timeline. What is acked was committed on the one before, and with asynchronous replication the
 * new one may lack the last of that. Nobody can tell from what it holds, so the operator is told: an incident.
 *
 * The timeline is remembered in Redis, beside what is acked. Of several indexers one tells it.
 */
import type { DatabasePool } from '@sluice/database/pool.ts'
import { sleep } from '@sluice/runtime/backoff.ts'
import { describeError, FatalError, TransientError } from '@sluice/runtime/errors.ts'
import type { Logger } from '@sluice/runtime/log.ts'
import type { Service } from '@sluice/runtime/service.ts'
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { recordIncident, type CountIncident } from '@sluice/streams/incidents.ts'

export interface FailoverWatchOptions {
  db: DatabasePool
  redis: Redis
  log: Logger
  /** Of the indexer. */
  consumer: string
  countIncident: CountIncident
  /** Time between two looks; a look costs one small statement. */
  everyMs?: number
}

interface Failover {
  before: string
  timeline: string
}

interface Watch extends FailoverWatchOptions {
  /** What was noticed and is not stored yet. */
  owed: Failover[]
  isTold: boolean
}

/** Holds the timeline, as the eight hexadecimal digits with which the names of its WAL files begin. */
export const TIMELINE_KEY = 'sluice:postgres:timeline'

/** A standby has no timeline of its own, and fails. */
const TIMELINE = `select left(pg_walfile_name(pg_current_wal_lsn()), 8) as timeline`

/** Looks until the signal. A server that only speaks PostgreSQL's protocol may have no such WAL: it is told once. */
export function watchFailovers(options: FailoverWatchOptions): Service {
  const { everyMs = 10_000 } = options
  const watch: Watch = { ...options, owed: [], isTold: false }
  return {
    name: 'failover-watch',
    async run(signal) {
      while (!signal.aborted) {
        try {
          await look(watch)
        } catch (error) {
          if (!(error instanceof TransientError)) throw error
        }
        await sleep(everyMs, signal).catch(() => undefined)
      }
    },
  }
}

async function look(watch: Watch): Promise<void> {
  const { redis, log, consumer, countIncident, owed } = watch
  const timeline = await timelineOf(watch)
  if (timeline !== undefined && (await classified(redis.get(TIMELINE_KEY))) !== timeline) {
    // One command, so that of several indexers one finds the timeline before.
    const before = await classified(redis.set(TIMELINE_KEY, timeline, { GET: true }))
    if (before !== null && before !== timeline) owed.push({ before, timeline })
  }
  for (let next = owed[0]; next; next = owed[0]) {
    const what = `PostgreSQL is on timeline ${shown(next.timeline)}, and was on ${shown(next.before)}: a standby was promoted, or a backup restored`
    await recordIncident(redis, { kind: 'database-promoted', role: `indexer ${consumer}`, what, action }, countIncident)
    log.error({ ...next }, what)
    owed.shift()
  }
}

/** The timeline; undefined when the server refuses to tell it. @throws TransientError */
async function timelineOf(watch: Watch): Promise<string | undefined> {
  try {
    const { rows } = await watch.db.query<{ timeline: string }>(TIMELINE)
    return rows[0]!.timeline
  } catch (error) {
    if (!(error instanceof FatalError)) throw error
    if (!watch.isTold) {
      watch.log.warn(
        { error: describeError(error) },
        'PostgreSQL does not tell its timeline: a failover is not noticed',
      )
    }
    watch.isTold = true
    return undefined
  }
}

const action =
  'Indexing goes on. If its replication was synchronous, nothing is missing. If not, it lacks the last transactions before that: see "When a store fails over" in docs/operations.md'

const shown = (timeline: string): number => Number.parseInt(timeline, 16)

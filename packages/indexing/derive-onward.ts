/**
 * Walks down threads: derives records again, then the records that depend on those, to the end or as far as there is
 * room. What lies further down is not given up: it is returned as `beyond`, and the caller puts it off
 * (`settle-later.ts`) so that somebody goes on there.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Beyond, Room, Touched, Unseen } from '@sluice/collections/depends.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { deriveAgain } from './derive-again.ts'
import { findAffected } from './find-affected.ts'
import { handOver } from './hand-over.ts'
import { Seen } from './seen.ts'
import { rederived, rewritten, unchangedBy } from './touched.ts'
import { findUnseen, type Moment } from './unseen.ts'

export interface OnwardOptions {
  /** A moment from before the records were looked up, and (`own`) the transaction whose versions led to them. */
  found: Moment & { own?: string }
  /**
   * An earlier attempt may have been cut short between two transactions. Then the walk also goes on below records that
   * do not change. Default: no.
   */
  resumes?: boolean
  /** How many further records are looked for below these. Default: no limit. */
  room?: number
  /** Records visited so far, by earlier parts of the same work; this walk adds its own. */
  seen?: Seen
  limits?: Partial<OnwardLimits>
  /** Aborts the walk between two transactions. */
  signal?: AbortSignal
}

/** Limits after which others must go on, even if there is room. */
export interface OnwardLimits {
  /** How many rounds, in all, may visit no new record. */
  idleRounds: number
  /** How many records may be visited. */
  seen: number
}

/**
 * Idle rounds come from replies that answer each other in a circle, and from a change that goes down where an earlier
 * change has gone already. 1,000 rounds go down 4,000 levels. Two million visited records take 32 MB.
 */
export const ONWARD_LIMITS: OnwardLimits = { idleRounds: 1_000, seen: 2_000_000 }

export interface Onward {
  /** How many records changed. */
  changes: number
  /** Records below which somebody must go on, as one that resumes. */
  beyond: Beyond[]
}

/**
 * Derives these records again, then what hangs on those that changed, and so on. With `resumes`, it also goes on below
 * those that did not change.
 * @throws TransientError, FatalError, or the signal's reason
 */
export async function deriveOnward(
  db: DatabasePool,
  collections: CollectionSet,
  uris: readonly string[],
  { found, resumes = false, room, seen = new Seen(), limits, signal }: OnwardOptions,
): Promise<Onward> {
  const { idleRounds, seen: seenMax } = { ...ONWARD_LIMITS, ...limits }
  let affected = new Set(uris)
  const onward: Onward = { changes: 0, beyond: [] }
  let space = room
  const passed = new Set<string>()
  // Each round goes at least one level down a thread. Threads may be of any depth.
  for (let idle = 0; affected.size > 0;) {
    const next = new Set<string>()
    const before = seen.size
    for (const uri of affected) seen.add(uri)
    if (seen.size === before) idle++
    const parts = [...slices([...affected].sort(), DERIVE_MAX)]
    for (const part of parts) {
      signal?.throwIfAborted()
      const { began, changed, unchanged, rest } = await transaction(db, { doing: 'settling' }, (tx) =>
        deriveAgain(tx, collections, part),
      )
      parts.push(...rest)
      onward.changes += changed.length
      // Done part by part, so that the loaded records of a part are not kept.
      await db.session(async (session) => {
        const look = async (touched: Touched[], unseen: Unseen, isNews: (uri: string) => boolean): Promise<void> => {
          const { uris: below, beyond } = await findAffected(session, collections, touched, unseen, roomIn(space))
          for (const uri of below) if (isNews(uri)) next.add(uri)
          onward.beyond.push(...beyond)
          if (space !== undefined) space = Math.max(0, space - below.length)
        }
        const unseen = await findUnseen(session, began)
        const gone = await leftSince(session, part, found, passed)
        // With `resumes`, nobody knows whether the earlier attempt passed its changes on: so every change is passed on.
        const touched = changed.map(({ entry, passesOn }) => rederived(entry, passesOn || resumes))
        await look([...touched, ...unchanged.map(unchangedBy), ...gone.map(rewritten)], unseen, () => true)
        if (resumes)
          await look(
            unchanged.map((entry) => rederived(entry, true)),
            'nothing',
            (uri) => !seen.has(uri),
          )
      })
    }
    affected = next
    if (idle < idleRounds && seen.size < seenMax) continue
    const { from, stay } = await handOver(db, collections, next)
    for (const uri of from) onward.beyond.push({ uri, since: '' })
    affected = stay
  }
  return onward
}

/** The room that is left: `all` for all versions together; if that is not enough, an equal share for each. */
function roomIn(space: number | undefined): ((versions: number) => Room) | undefined {
  return space === undefined ? undefined : (versions) => ({ all: space, each: Math.floor(space / versions) })
}

/**
 * Finds the records among these that other transactions have deleted or written anew since the records were found, each
 * version once.
 *
 * Example: reply R is found because its parent arrived late. Before R is derived again, another lane edits R. Replies
 * below R are now judged by what `past_fact` remembers of R's earlier version, and that may differ from the verdict
 * that was stored for R when they were judged. R itself does not change any more, so nobody would pass the difference
 * on. So the walk goes on below R.
 */
async function leftSince(
  session: Session,
  uris: readonly string[],
  { next, running, own }: OnwardOptions['found'],
  passed: Set<string>,
): Promise<string[]> {
  const { rows } = await session.query<{ uri: string; version: string | null }>(LEFT, [
    uris,
    next,
    running,
    own ?? null,
  ])
  return rows.flatMap(({ uri, version }) => {
    const before = passed.size
    return passed.add(`${uri} ${version}`).size > before ? [uri] : []
  })
}

/**
 * Counts only rows of transactions that had not ended at that moment: those from `next` on, and those in `running`. A
 * transaction that somebody holds open for an hour is one of `running`; what others wrote since it began does not
 * count.
 */
const LEFT = {
  name: 'left-since',
  text: `
    select asked.uri, record.xmin::text as version from unnest($1::text[]) as asked (uri) left join record on ${keyed('record.uri', 'asked.uri')}
    where record.uri is null or (
      (age(record.xmin) <= age($2::text::xid8::xid) or record.xmin = any($3::text[]::xid8[]::xid[])) and record.xmin is distinct from $4::text::xid8::xid
    )`,
}

const DERIVE_MAX = 1_000

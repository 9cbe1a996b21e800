/**
 * Down a thread: what hangs on records that are derived again, to its end or as far as there is room. What is further down is not given up: it is named, and to be put off (`settle-later.ts`), so that
 * somebody goes on there.
 */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Beyond, Room, Touched, Unseen } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { deriveAgain } from './derive-again.ts'
import { findAffected } from './find-affected.ts'
import { handOver } from './hand-over.ts'
import { Seen } from './seen.ts'
import { rederived, rewritten, unchangedBy } from './touched.ts'
import { findUnseen, type Moment } from './unseen.ts'

export interface OnwardOptions {
  /** From before these were found, and the transaction by whose versions they were. */
  found: Moment & { own?: string }
  /** This may have been begun before and cut short, between two transactions. Default: no. */
  resumes?: boolean
  /** How many more are looked for below these. Default: what it takes. */
  room?: number
  /** What has been come upon before, in another part of the same; and is from now on, here. */
  seen?: Seen
  limits?: Partial<OnwardLimits>
  /** Given up between two transactions. */
  signal?: AbortSignal
}

/** Beyond which it is left to others to go on, even where there is room. */
export interface OnwardLimits {
  /** Rounds in all that came upon nothing new. */
  idleRounds: number
  /** Records that were come upon. */
  seen: number
}

/**
 * Idle are replies that stand in a circle, and a change that comes down behind others, where all has been come upon already: 1,000 rounds go down 4,000 levels. Of what was come upon two million
 * are 32 MB.
 */
export const ONWARD_LIMITS: OnwardLimits = { idleRounds: 1_000, seen: 2_000_000 }

export interface Onward {
  /** How many changed. */
  changes: number
  /** Those below which it is to be gone on, as if by one that resumes. */
  beyond: Beyond[]
}

/** Derives these records again, and what hangs on those that changed, and so on; what resumes, on those that did not change too. @throws TransientError, FatalError, or the signal's reason */
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
  // Each round goes at least one level down a thread, and threads are as deep as anybody likes.
  for (let idle = 0; affected.size > 0;) {
    const next = new Set<string>()
    const before = seen.size
    for (const uri of affected) seen.add(uri)
    if (seen.size === before) idle++
    const parts = [...chunks([...affected].sort(), DERIVE_MAX)]
    for (const part of parts) {
      signal?.throwIfAborted()
      const { began, changed, unchanged, rest } = await transaction(db, { doing: 'settling' }, (tx) =>
        deriveAgain(tx, collections, part),
      )
      parts.push(...rest)
      onward.changes += changed.length
      // Part by part: nothing of what was loaded is kept.
      await db.session(async (session) => {
        const look = async (touched: Touched[], unseen: Unseen, isNews: (uri: string) => boolean): Promise<void> => {
          const { uris: below, beyond } = await findAffected(session, collections, touched, unseen, roomIn(space))
          for (const uri of below) if (isNews(uri)) next.add(uri)
          onward.beyond.push(...beyond)
          if (space !== undefined) space = Math.max(0, space - below.length)
        }
        const unseen = await findUnseen(session, began)
        const gone = await leftSince(session, part, found, passed)
        // Who resumes does not know what has been passed on of what changed before.
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

/** What is left of it is for all; where that does not do, for each its part. */
function roomIn(space: number | undefined): ((versions: number) => Room) | undefined {
  return space === undefined ? undefined : (versions) => ({ all: space, each: Math.floor(space / versions) })
}

/**
 * Of these records those that others have ended or written anew since they were found, each version once. Then what hangs on the version of before is judged by what is remembered of it, and that
 * may be worth something else than it was when the record was still to be derived again: as nobody sees it change, nobody passes it on.
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

/** By those that had not ended then. One that somebody holds open for an hour is one of them, and not all since. */
const LEFT = {
  name: 'left-since',
  text: `
    select asked.uri, record.xmin::text as version from unnest($1::text[]) as asked (uri) left join record on ${keyed('record.uri', 'asked.uri')}
    where record.uri is null or (
      (age(record.xmin) <= age($2::text::xid8::xid) or record.xmin = any($3::text[]::xid8[]::xid[])) and record.xmin is distinct from $4::text::xid8::xid
    )`,
}

const DERIVE_MAX = 1_000

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += size) yield items.slice(i, i + size)
}

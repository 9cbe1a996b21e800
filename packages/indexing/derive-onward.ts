/** Down a thread: what hangs on records that are derived again. */
import { keyed } from '@sluice/collections/by-key.ts'
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Beyond, Room, Touched, Unseen } from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { deriveAgain } from './derive-again.ts'
import { find } from './find.ts'
import { again, left, same } from './touched.ts'
import { whatElse, type Began } from './unseen.ts'

export interface OnwardOptions {
  /** From before these were found: the oldest transaction that was running, and the one whose versions they were found by. */
  found: Pick<Began, 'oldest'> & Partial<Began>
  /** This may have been begun before and cut short, between two transactions. Default: no. */
  resumes?: boolean
  /** How many more are looked for below these. Default: what it takes. */
  room?: number
  /** Ends after so many rounds in all that came upon nothing new: in a circle, or beyond what is kept of what was seen. */
  idleRounds?: number
  /** Given up between two transactions. */
  signal?: AbortSignal
}

export interface Onward {
  /** How many changed. */
  changes: number
  /** Those below which there was no room to look. */
  beyond: Beyond[]
}

/** Derives these records again, and what hangs on those that changed, and so on; what resumes, on those that did not change too. @throws TransientError, FatalError, or the signal's reason */
export async function deriveOnward(
  db: DatabasePool,
  collections: CollectionSet,
  uris: readonly string[],
  { found, resumes = false, room, idleRounds = IDLE_ROUNDS_MAX, signal }: OnwardOptions,
): Promise<Onward> {
  let affected = new Set(uris)
  const onward: Onward = { changes: 0, beyond: [] }
  let space = room
  // Replies may stand in a circle, and then nothing but this ends it.
  const seen = new Set<string>()
  const passed = new Set<string>()
  // Each round goes at least one level down a thread, and threads are as deep as anybody likes.
  for (let idle = 0; affected.size > 0 && idle < idleRounds;) {
    const next = new Set<string>()
    const before = seen.size
    const resuming = resumes && before < SEEN_MAX
    if (before < SEEN_MAX) for (const uri of affected) seen.add(uri)
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
          const { uris: below, beyond } = await find(session, collections, touched, unseen, roomIn(space))
          for (const uri of below) if (isNews(uri)) next.add(uri)
          onward.beyond.push(...beyond)
          if (space !== undefined) space = Math.max(0, space - below.length)
        }
        const unseen = await whatElse(session, began)
        const gone = await leftSince(session, part, found, passed)
        // Who resumes does not know what has been passed on of what changed before.
        const touched = changed.map(({ entry, passesOn }) => again(entry, passesOn || resuming))
        await look([...touched, ...unchanged.map(same), ...gone.map(left)], unseen, () => true)
        if (resuming)
          await look(
            unchanged.map((entry) => again(entry, true)),
            'nothing',
            (uri) => !seen.has(uri),
          )
      })
    }
    affected = next
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
  { oldest, own }: OnwardOptions['found'],
  passed: Set<string>,
): Promise<string[]> {
  const { rows } = await session.query<{ uri: string; version: string | null }>(LEFT, [uris, oldest, own ?? null])
  return rows.flatMap(({ uri, version }) => {
    const before = passed.size
    return passed.add(`${uri} ${version}`).size > before ? [uri] : []
  })
}

const LEFT = {
  name: 'left-since',
  text: `
    select asked.uri, record.xmin::text as version from unnest($1::text[]) as asked (uri) left join record on ${keyed('record.uri', 'asked.uri')}
    where record.uri is null or (age(record.xmin) <= age($2::text::xid8::xid) and record.xmin is distinct from $3::text::xid8::xid)`,
}

const IDLE_ROUNDS_MAX = 1_000
const DERIVE_MAX = 1_000
/** 30 MB. In what is larger, one that resumes goes on from what changes alone, and nothing is gone on from for more than `idleRounds`. */
const SEEN_MAX = 250_000

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += size) yield items.slice(i, i + size)
}

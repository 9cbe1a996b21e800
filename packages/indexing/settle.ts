/**
 * Settling: applies, after the commit, what records of different accounts mean for each other. Examples: a reply whose
 * parent arrives late; a reply and its gate that two consumers applied at the same moment.
 *
 * When a batch is durable, it looks for records that its own records may affect, and derives their columns and
 * notifications again. Two batches can run at once without seeing each other's rows. Example: lane A inserts a reply
 * while lane B inserts the gate of its thread. Each looks again after its own commit, so whichever looks last sees both
 * rows. A record is derived again under a lock on its row, so the last transaction that derives it has seen everything
 * before it.
 *
 * A batch is acked only after it has settled. If the process dies in between, the batch is redelivered and settles
 * again. Records that changed the first time do not change again. So the second settling goes on below every record
 * that it looks at, changed or not.
 *
 * Any number of records may depend on one record, and the whole lane waits for a batch. So the work before the ack is
 * limited (`ROOM`). A record on which more depends is put off before the ack: all that depends on it is looked for
 * again beside the data path, from the beginning (`settle-later.ts`). To look later is as good: a later look sees
 * everything that an earlier one would have seen.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Touched, Unseen } from '@sluice/collections/depends.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Decisions, Known } from './decide.ts'
import { deriveOnward } from './derive-onward.ts'
import { findAffected } from './find-affected.ts'
import { withdrawMuted, type Place } from './mutes.ts'
import { putOff } from './settle-later.ts'
import { touchedBy, type TouchedOptions } from './touched.ts'
import { findUnseen, type Began } from './unseen.ts'
import type { Past, Version } from './version.ts'

export interface Unsettled {
  /** Versions whose derived columns were computed with the batch. */
  derived: Version[]
  /** Deletions, and versions that repeat the stored content at a higher rev. */
  ended: Version[]
  /** What the batch's transaction could see when it began. */
  began: Began
  /** Versions that are no longer in force. They may have been applied before: nobody knows. */
  late: Version[]
  /** Versions that an earlier delivery of the batch applied: everything counts as written since. */
  repeated: Version[]
  /** By URI, the rev of the version that the index held before the batch. */
  held: ReadonlyMap<string, string>
  /** Those versions whose path the index did not know. */
  first: ReadonlySet<Version>
  /** Those versions that an export may have brought before them. */
  claimed: ReadonlySet<Version>
  /** Replies in threads that their authors have muted: what was told about them before is withdrawn. */
  muted: readonly Place[]
}

export function unsettled(
  decisions: Decisions,
  folded: readonly Past[],
  began: Began,
  { known, muted }: { known: ReadonlyMap<string, Known>; muted: readonly Place[] },
): Unsettled {
  const { fresh, resurrected, replaced, confirmed, tombstoned, repeated, past, held } = decisions
  const late = [...folded, ...past].map(({ version }) => version)
  const claimed = new Set([...repeated, ...findClaimed(late, [...fresh, ...replaced], known)])
  const wereDeleted = new Set(resurrected)
  const first = new Set(fresh.filter((version) => !wereDeleted.has(version)))
  return {
    derived: [...fresh, ...replaced],
    ended: [...tombstoned, ...confirmed],
    began,
    late,
    repeated,
    held,
    first,
    claimed,
    muted,
  }
}

/**
 * The versions that an export may have brought before them: it is in the same batch, or the index knew something newer,
 * or what it has is the same. A record that is made and deleted within one batch is none of them. Otherwise anybody
 * could have any number of replies judged again, by keys that claim to be old.
 */
function findClaimed(
  late: readonly Version[],
  beside: readonly Version[],
  known: ReadonlyMap<string, Known>,
): Version[] {
  if (late.length === 0) return []
  const written = new Set(beside)
  const exported = new Set([...late, ...beside].flatMap(({ uri, fromExport }) => (fromExport ? [uri] : [])))
  return late.filter(
    (version) =>
      exported.has(version.uri) || written.has(version) || (known.get(version.uri)?.rev ?? '') >= version.rev,
  )
}

/**
 * How many dependent records a batch looks at before its ack, and how many it then derives again below those that
 * change.
 */
export interface BatchRoom {
  base: number
  /** Added to `base` for each version of the batch. */
  each: number
  /** If that is not enough for all versions together: how many for each version alone, at least. */
  own: number
}

/**
 * In the natural order settling finds nothing; out of order it finds a reply or two for each post. A batch of one event
 * looks at 502 records and derives as many again, twice. In a batch of thousands of events, each has 100 records of its
 * own, and at most what there is for all.
 */
export const ROOM: BatchRoom = { base: 500, each: 2, own: 100 }

/**
 * Derives again the records that these versions affect, then the records that those affect, and so on, as far as there
 * is room. The rest is put off durably before this resolves. Returns how many records changed.
 */
export async function settle(
  db: DatabasePool,
  collections: CollectionSet,
  { derived, ended, began, late, repeated, held, first, claimed, muted }: Unsettled,
  room: BatchRoom = ROOM,
): Promise<number> {
  const touch = (versions: readonly Version[], options: TouchedOptions = {}): Touched[] =>
    touchedBy(collections, versions, options)
  const { news, again } = await db.session(async (session) => {
    const unseen = await findUnseen(session, began)
    const look = (touched: Touched[], since: Unseen): ReturnType<typeof findAffected> =>
      findAffected(session, collections, touched, since, (versions) => {
        const all = spaceOf(room, versions)
        return { all, each: Math.max(room.own, Math.floor(all / versions)) }
      })
    const now = [...touch(derived, { derived: true, held, first }), ...touch(ended, { newest: true })]
    return {
      news: await look(now, unseen),
      again: [
        await look(touch(late, { held, claimed }), unseen),
        await look(touch(repeated, { claimed }), { since: null }),
      ],
    }
  })
  const all = [news, ...again]
  const beyond = all.flatMap((found) => found.beyond)
  const space = spaceOf(room, derived.length + ended.length + late.length + repeated.length)
  let changes = 0
  for (const { uris, resumes } of [
    { uris: [...news.uris, ...all.flatMap(({ marked }) => marked)], resumes: false },
    { uris: again.flatMap((found) => found.uris), resumes: true },
  ]) {
    const onward = await deriveOnward(db, collections, uris, { found: began, resumes, room: space })
    changes += onward.changes
    beyond.push(...onward.beyond)
  }
  await putOff(db, beyond)
  await withdrawMuted(db, muted)
  return changes
}

function spaceOf({ base, each }: BatchRoom, versions: number): number {
  return base + each * versions
}

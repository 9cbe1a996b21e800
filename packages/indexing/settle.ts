/**
 * What records of different accounts mean for each other, settled after the commit: a reply whose parent arrives late, a reply and a gate
 * that two consumers applied at the same moment.
 *
 * Each transaction looks, once it is durable, for records that its own may affect, and derives their columns and notifications again. Of two that
 * did not see each other, whichever looks last sees both. A record is derived again under a lock on its row, so the last word is said by someone who saw everything
 * before it. A batch is acked only after this; if the process dies in between, the batch comes again and settles again. What had changed by then does not change
 * again, so settling then goes on from everything that it looks at.
 *
 * Of what hangs on one record there may be any number, and a batch is waited for by all of its lane. So each has its room, and where that does not do, the record is put
 * off, before the ack: what hangs on it is looked for again, from the beginning and all of it, beside the data path (`settle-later.ts`). To look later is as good, since
 * whoever looks last sees most.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { Touched, Unseen } from '@sluice/collections/define.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import type { Decisions } from './decide.ts'
import { deriveOnward } from './derive-onward.ts'
import { findAffected } from './find-affected.ts'
import { putOff } from './settle-later.ts'
import { touchedBy, type TouchedOptions } from './touched.ts'
import { findUnseen, type Began } from './unseen.ts'
import type { Past, Version } from './version.ts'

export interface Unsettled {
  /** Versions whose columns were derived with the batch. */
  derived: Version[]
  /** Deletions, and versions of which only the time is news. */
  ended: Version[]
  /** When the batch's transaction began. */
  began: Began
  /** Versions that are no longer in force. Whether they arrive for the first time is not known. */
  late: Version[]
  /** Versions that were applied before: looked at as if everything had happened since. */
  repeated: Version[]
  /** By URI, the rev of what stood there before the batch. */
  held: ReadonlyMap<string, string>
  /** Those of whose path nothing was known. */
  first: ReadonlySet<Version>
}

export function unsettled(decisions: Decisions, folded: readonly Past[], began: Began): Unsettled {
  const { fresh, resurrected, replaced, confirmed, tombstoned, repeated, past, held } = decisions
  const late = [...folded, ...past].map(({ version }) => version)
  const dead = new Set(resurrected)
  const first = new Set(fresh.filter((version) => !dead.has(version)))
  return { derived: [...fresh, ...replaced], ended: [...tombstoned, ...confirmed], began, late, repeated, held, first }
}

/** How many records are looked at before the ack, and how many are derived again below those that change. */
export interface BatchRoom {
  base: number
  /** And so many more for each version of the batch. */
  each: number
  /** Where that does not do, so many for each alone, at least. */
  own: number
}

/**
 * In natural order nothing is found, and out of it a reply or two for each post. One event by itself makes a batch look at 502 records and derive as many again, twice; one of thousands
 * at 100 of its own, and at most at what there is for all.
 */
export const ROOM: BatchRoom = { base: 500, each: 2, own: 100 }

/**
 * Derives again what these versions affect, and what that affects in turn, as far as there is room; the rest is put off when this resolves. Returns how many records changed.
 */
export async function settle(
  db: DatabasePool,
  collections: CollectionSet,
  { derived, ended, began, late, repeated, held, first }: Unsettled,
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
      again: [await look(touch(late, { held }), unseen), await look(touch(repeated), { since: null })],
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
  return changes
}

function spaceOf({ base, each }: BatchRoom, versions: number): number {
  return base + each * versions
}

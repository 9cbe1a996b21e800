/**
 * What records of different accounts mean for each other, settled after the commit: a reply whose parent arrives late, a reply and a gate
 * that two consumers applied at the same moment.
 *
 * Each transaction looks, once it is durable, for records that its own may affect, and derives their columns and notifications again. Of two that
 * did not see each other, whichever looks last sees both. A record is derived again under a lock on its row, so the last word is said by someone who saw everything
 * before it. A batch is acked only after this; if the process dies in between, the batch comes again and settles again. What had changed by then does not change
 * again, so settling then goes on from everything that it looks at.
 */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import {
  collectionOfUri,
  type Collection,
  type Entry,
  type Touched,
  type Unseen,
  type Written,
} from '@sluice/collections/define.ts'
import type { DatabasePool, Session } from '@sluice/database/pool.ts'
import { transaction, type Transaction } from '@sluice/database/transaction.ts'
import type { Decisions } from './decide.ts'
import { Deltas } from './deltas.ts'
import { loadEntries } from './entry.ts'
import { Notices, type NotificationRow } from './notify.ts'
import { sqlOf } from './sql.ts'
import { again, touchedBy } from './touched.ts'
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
}

export interface Began {
  /** The oldest transaction that was running. */
  oldest: string
  own: string
}

export const BEGAN = {
  name: 'began',
  text: `select pg_snapshot_xmin(pg_current_snapshot())::text as oldest, pg_current_xact_id()::text as own`,
}

export function unsettled(decisions: Decisions, folded: readonly Past[], began: Began): Unsettled {
  const { fresh, replaced, confirmed, entombed, repeated, past, held } = decisions
  const late = [...folded, ...past].map(({ version }) => version)
  return { derived: [...fresh, ...replaced], ended: [...entombed, ...confirmed], began, late, repeated, held }
}

/** Derives again what these versions affect, and what that affects in turn. Returns how many records changed. */
export async function settle(
  db: DatabasePool,
  collections: CollectionSet,
  { derived, ended, began, late, repeated, held }: Unsettled,
): Promise<number> {
  const { oldest: since } = began
  const touch = (versions: readonly Version[], isDerived: boolean, before?: Unsettled['held']): Touched[] =>
    touchedBy(collections, versions, isDerived, before)
  // What hangs on gates, follows and lists passes nothing on: nothing below it can have been left undone.
  const [passing, others] = [true, false].map((passes) => {
    const isOne = ({ collection }: Version): boolean =>
      (collections.plugin(collection)?.derive !== undefined) === passes
    return { late: touch(late.filter(isOne), false, held), repeated: touch(repeated.filter(isOne), false) }
  }) as [Old, Old]
  const { news, again } = await db.session(async (session) => {
    const unseen = await whatElse(session, began)
    const findAll = async (touched: Touched[], old: Old): Promise<string[]> => [
      ...(await find(session, collections, [...touched, ...old.late], unseen)),
      ...(await find(session, collections, old.repeated, { since: null })),
    ]
    return {
      news: await findAll([...touch(derived, true, held), ...touch(ended, false)], others),
      again: await findAll([], passing),
    }
  })
  const changes = await deriveOnward(db, collections, news, { since })
  return changes + (await deriveOnward(db, collections, again, { since, resumes: true }))
}

/** Versions that are no news. */
interface Old {
  late: Touched[]
  repeated: Touched[]
}

export interface OnwardOptions {
  /** The oldest transaction that may have gone unseen. */
  since: string
  /** This may have been begun before and cut short, between two transactions. Default: no. */
  resumes?: boolean
}

/** Derives these records again, and what hangs on those that changed, and so on; what resumes, on those that did not change too. Returns how many changed. */
export async function deriveOnward(
  db: DatabasePool,
  collections: CollectionSet,
  uris: readonly string[],
  { since, resumes = false }: OnwardOptions,
): Promise<number> {
  let affected = new Set(uris)
  let changes = 0
  // Replies may stand in a circle, and then nothing but this ends it.
  const seen = new Set<string>()
  // Each round goes at least one level down a thread; a thread deeper than this would be settled by the next event in it.
  for (let round = 0; affected.size > 0 && round < ROUNDS_MAX; round++) {
    const next = new Set<string>()
    const resuming = resumes && seen.size < SEEN_MAX
    if (resuming) for (const uri of affected) seen.add(uri)
    const parts = [...chunks([...affected].sort(), DERIVE_MAX)]
    for (const part of parts) {
      const derived = await transaction(db, { doing: 'settling' }, (tx) => deriveAgain(tx, collections, part))
      const { changed, same, rest } = derived
      parts.push(...rest)
      changes += changed.length
      // Part by part: nothing of what was loaded is kept.
      await db.session(async (session) => {
        // Who resumes does not know what has been passed on of what changed before.
        const touched = changed.map(({ entry, passesOn }) => again(entry, passesOn || resuming))
        for (const uri of await find(session, collections, touched, { since })) next.add(uri)
        if (!resuming) return
        const unchanged = same.map((entry) => again(entry, true))
        const below = await find(session, collections, unchanged, 'nothing')
        for (const uri of below) if (!seen.has(uri)) next.add(uri)
      })
    }
    affected = next
  }
  return changes
}

const ROUNDS_MAX = 1_000
const DERIVE_MAX = 1_000
/** Of one that resumes: 30 MB. In what is larger it goes on from what changes alone. */
const SEEN_MAX = 250_000

/** When no other transaction began, ended or ran between our beginning and now, nothing was unseen: always so with a single consumer. */
async function whatElse(session: Session, { oldest, own }: Began): Promise<Unseen> {
  const { rows } = await session.query<{ next: string }>(NEXT)
  return oldest === own && BigInt(rows[0]!.next) === BigInt(own) + 1n ? 'nothing' : { since: oldest }
}

const NEXT = { name: 'next-xid', text: `select pg_snapshot_xmax(pg_current_snapshot())::text as next` }

async function find(
  session: Session,
  collections: CollectionSet,
  touched: readonly Touched[],
  unseen: Unseen,
): Promise<string[]> {
  if (touched.length === 0) return []
  const byCollection = Map.groupBy(touched, ({ uri }) => collectionOfUri(uri))
  const sql = sqlOf(session)
  const found = await Promise.all(
    collections.plugins.map(async ({ nsid, affects }) => {
      const ofCollection = byCollection.get(nsid)
      return ofCollection && affects ? affects(sql, ofCollection, unseen) : []
    }),
  )
  return found.flat()
}

interface Derived {
  /** `passesOn`: in something on which other records hang. */
  changed: { entry: Entry; passesOn: boolean }[]
  same: Entry[]
  /** Those that had no room in memory: each part is for a transaction of its own. */
  rest: string[][]
}

/** Derives these records again; returns which of them changed. */
async function deriveAgain(tx: Transaction, collections: CollectionSet, uris: readonly string[]): Promise<Derived> {
  const all: Derived = { changed: [], same: [], rest: [] }
  const deltas = new Deltas()
  for (const [nsid, ofCollection] of Map.groupBy(uris, collectionOfUri)) {
    const plugin = collections.plugin(nsid)
    if (!plugin?.derive) continue
    const { changed, same, rest } = await deriveCollection(tx, collections, plugin, ofCollection, deltas)
    all.changed.push(...changed)
    all.same.push(...same)
    all.rest.push(...rest)
  }
  deltas.flush(tx)
  return all
}

async function deriveCollection(
  tx: Transaction,
  collections: CollectionSet,
  plugin: Collection,
  uris: readonly string[],
  deltas: Deltas,
): Promise<Derived> {
  const [primary] = plugin.tables
  const counters = plugin.counters.filter(({ of }) => of === primary)
  const columns = new Set([primary!.owner, ...plugin.derived, ...counters.map(({ by }) => by)])
  const { rows } = await tx.query<Record<string, unknown>>(
    {
      name: `lock-${primary!.name}`,
      text: `
        select ${[...columns].map((c) => `"${c}"`).join(', ')} from "${primary!.name}" where "${primary!.owner}" = any($1::text[])
        order by "${primary!.owner}" for update`,
    },
    [uris],
  )
  const before = new Map(rows.map((row) => [row[primary!.owner] as string, row]))
  const { entries, rest } = await loadEntries(tx, collections, [...before.keys()])
  const written: Written[] = entries.map(({ entry }) => ({ entry, rows: plugin.rows(entry) }))
  const notifications = (await plugin.derive!(sqlOf(tx), written)) ?? new Map()
  const changed = written.filter(({ entry, rows: [row] }) =>
    differs(plugin.derived, before.get(entry.uri)!, row!.values),
  )
  for (const {
    entry,
    rows: [row],
  } of changed) {
    deltas.add(counters, before.get(entry.uri)!, -1)
    deltas.add(counters, { ...before.get(entry.uri), ...pick(row!.values, plugin.derived) }, 1)
  }
  updateDerived(tx, plugin, changed)
  await renotify(tx, plugin, written, notifications)
  const differing = new Set(changed.map(({ entry }) => entry))
  // A gate that is made or taken back marks its post: to judge the 200,000 replies below it for that mark took 12 s.
  const passedOn = plugin.passedOn ?? plugin.derived
  const onward = changed.map(({ entry, rows: [row] }) => ({
    entry,
    passesOn: differs(passedOn, before.get(entry.uri)!, row!.values),
  }))
  return { changed: onward, same: written.flatMap(({ entry }) => (differing.has(entry) ? [] : [entry])), rest }
}

/** Null and false say the same: nothing against it. */
function differs(columns: readonly string[], before: Record<string, unknown>, after: Record<string, unknown>): boolean {
  return columns.some((column) => (before[column] ?? false) !== (after[column] ?? false))
}

function updateDerived(tx: Transaction, { tables: [primary], derived }: Collection, changed: readonly Written[]): void {
  if (changed.length === 0) return
  const names = derived.map((column) => `"${column}"`)
  void tx.query(
    {
      name: `rederive-${primary!.name}`,
      text: `
        update "${primary!.name}" set ${names.map((name) => `${name} = news.${name}`).join(', ')}
        from unnest($1::text[], ${names.map((_, i) => `$${i + 2}::boolean[]`).join(', ')}) as news (uri, ${names.join(', ')})
        where "${primary!.name}"."${primary!.owner}" = news.uri`,
    },
    [
      changed.map(({ entry }) => entry.uri),
      ...derived.map((column) => changed.map(({ rows }) => rows[0]!.values[column] ?? null)),
    ],
  )
}

/** Makes the stored notifications of these records those that they should have, and touches no other. */
async function renotify(
  tx: Transaction,
  plugin: Collection,
  written: readonly Written[],
  wanted: ReadonlyMap<string, ReturnType<Collection['notifications']>>,
): Promise<void> {
  const stored = await tx.query<NotificationRow & { id: number }>(STORED, [written.map(({ entry }) => entry.uri)])
  const notices = new Notices()
  const unwanted: number[] = []
  const storedOf = Map.groupBy(stored.rows, (row) => row.recordUri)
  for (const { entry } of written) {
    const want = wanted.get(entry.uri) ?? plugin.notifications(entry)
    const have = storedOf.get(entry.uri) ?? []
    const same = (a: (typeof want)[number], b: NotificationRow): boolean =>
      a.did === b.did && a.reason === b.reason && a.reasonSubject === b.reasonSubject
    unwanted.push(...have.filter((row) => !want.some((w) => same(w, row))).map(({ id }) => id))
    notices.add(
      plugin,
      entry,
      want.filter((w) => !have.some((row) => same(w, row))),
    )
  }
  if (unwanted.length > 0)
    void tx.query({ name: 'unnotify', text: `delete from notification where id = any($1::bigint[])` }, [unwanted])
  await notices.flush(tx)
}

const STORED = {
  name: 'stored-notifications',
  text: `
    select id, did, "recordUri", "recordCid", author, reason, "reasonSubject", "sortAt"
    from notification where "recordUri" = any($1::text[]) order by id`,
}

function pick(values: Record<string, unknown>, columns: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(columns.map((column) => [column, values[column]]))
}

function* chunks<T>(items: readonly T[], size: number): Generator<T[]> {
  for (let i = 0; i < items.length; i += size) yield items.slice(i, i + size)
}

/**
 * `sluice settle since`: has the indexer look again at what depends on records that were written lately. Settling comes
 * after the commit of a batch and before its ack. So a server that lacks the last transactions may have the batch
 * without what settling made of it, and an export that repeats the record is no news.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { collectionOfUri } from '@sluice/collections/define.ts'
import { sortsByBytes } from '@sluice/database/collation.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { tidFromMicros } from '@sluice/events/tid.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { recordsBetween, urisOf } from '@sluice/indexing/ranges.ts'
import { putOff, waitingLater } from '@sluice/indexing/settle-later.ts'
import { accountsSince } from '@sluice/streams/chain-state.ts'
import { isInShard } from '@sluice/streams/spread.ts'
import { time } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { count } from '../output.ts'
import type { Session } from '../session.ts'

export const addSettle: Add = (cli, parent) => {
  const settle = parent
    .command('settle')
    .description('have the indexer judge again what depends on records that were written lately')
  settle.addHelpText(
    'after',
    examples([
      'sluice settle since 2026-11-01T09:30:00Z',
      'replies, quotes, marks and notifications, after PostgreSQL lost its last transactions',
    ]),
  )
  settle
    .command('since')
    .description(
      'what depends on records that were written or deleted, or arrived, since this time, of accounts that have committed since',
    )
    .argument('<time>', 'such as 2026-11-01T09:30:00Z; take that of `sluice backfill since`', time)
    .action((since: string) => cli.run((session) => settleSince(session, since)))
}

/** As many as `waitingLater` counts to. Beyond that, what batches put off would wait long behind these. */
const WAITING_MAX = 10_000
const POLL_MS = 1_000
/** Accounts that are read side by side; a session has three connections. */
const ACCOUNTS = 2

/** Enters into `settle_later` the records, and the deletions, on which others may depend. */
async function settleSince(session: Session, since: string): Promise<number> {
  const { out, settings, signal } = session
  const [redis, db] = [await session.redis(), await session.db()]
  if ((await bulkPhase(db)) !== undefined) {
    throw new CannotError('a first load is under way: what depends on its records is made by `sluice bulk finish`')
  }
  const rev = tidFromMicros(Date.parse(since) * 1_000)
  const recent = await readerOfRecent(db, since)
  let [accounts, records] = [0, 0]
  for await (const dids of accountsSince(redis, rev)) {
    const own = dids.filter((did) => isInShard(did, settings.shard))
    for (let at = 0; at < own.length && !signal.aborted; at += ACCOUNTS) {
      const part = own.slice(at, at + ACCOUNTS)
      const uris = (await Promise.all(part.map(recent))).flat()
      await room(db, signal)
      // No time: what an export brought counts from an earlier one than its rev.
      await putOff(db, uris.map((uri) => ({ uri, since: '' }))) // prettier-ignore
      accounts += part.length
      records += uris.length
    }
    if (signal.aborted) break
  }
  out.document({ since, accounts, records, complete: !signal.aborted })
  out.line(`${count(records)} records of ${count(accounts)} accounts queued: the indexer looks again at what depends on them`) // prettier-ignore
  if (signal.aborted) out.line('stopped before all accounts were looked at: repeat it')
  return EXIT.done
}

/** Waits until few enough records wait to be settled, or until the signal. */
async function room(db: DatabasePool, signal: AbortSignal): Promise<void> {
  while ((await waitingLater(db)) >= WAITING_MAX && !signal.aborted) {
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined)
  }
}

/**
 * Reads of an account the URIs on which other records may depend and whose newest version was written or arrived since.
 * What an export brought has the rev of its head, which may be old when it arrives.
 */
async function readerOfRecent(db: DatabasePool, since: string): Promise<(did: string) => Promise<string[]>> {
  const [rev, arrived] = [tidFromMicros(Date.parse(since) * 1_000), new Date(since).toISOString()]
  const byBytes = await sortsByBytes(db)
  const set = new CollectionSet(collections)
  const from = Object.entries({ record: 'indexedAt', tombstone: 'deletedAt' }).map(([table, time]) => {
    const between = recordsBetween(byBytes, ['$1', '$2', '$3'], { account: `${table}.did`, uri: `${table}.uri` })
    return `select uri from ${table} where ${between} and (rev >= $4 or "${time}" >= $5)`
  })
  const statement = from.join(' union all ')
  return async (did) => {
    const [first, to] = urisOf(did)
    const { rows } = await db.query<{ uri: string }>(statement, [did, first, to, rev, arrived])
    return rows.flatMap(({ uri }) => (set.plugin(collectionOfUri(uri))?.affects ? [uri] : []))
  }
}

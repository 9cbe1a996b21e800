/**
 * Imports a PLC directory's export into `did_cache`, in bulk. The newest operation of each DID wins, in any order and
 * however often the export is imported; of two in one millisecond the one that is read later wins. After that, handles
 * of accounts that came with a backfill are verified without asking the directory. The handle must still resolve to the
 * account.
 *
 * `did_cache` is a table of the AppView's schema that the AppView does not use any more.
 */
import { parsePlcLine, type PlcOperation } from '@sluice/atproto/plc-export.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'
import { withoutNul } from '@sluice/collections/values.ts'
import { transaction } from '@sluice/database/transaction.ts'
import { RefusedError } from '@sluice/runtime/errors.ts'

export interface IdentityImport {
  /** Lines read. */
  operations: number
  /** Rows that changed. */
  stored: number
  /** Lines that are no operations. */
  refused: number
  /** `createdAt` of the newest operation: where a later import goes on. */
  newest: string | undefined
}

export interface ImportOptions {
  signal: AbortSignal
  /** Lines in one transaction. */
  batchLines?: number
  /** Called after each transaction. */
  onProgress?: (progress: IdentityImport) => void
}

/**
 * Imports the operations of an export.
 * @param lines as `plcExportLines` yields them
 * @throws TransientError, FatalError, what `lines` throws, or the signal's reason; what `onProgress` was told is stored
 */
export async function importIdentities(
  db: DatabasePool,
  lines: AsyncIterable<string>,
  { signal, batchLines = 5_000, onProgress }: ImportOptions,
): Promise<IdentityImport> {
  const progress: IdentityImport = { operations: 0, stored: 0, refused: 0, newest: undefined }
  let newest = new Map<string, PlcOperation>()
  let waiting = 0
  const flush = async (): Promise<void> => {
    signal.throwIfAborted()
    progress.stored += await store(db, [...newest.values()])
    const last = [...newest.values()].reduce((max, { createdAt }) => Math.max(max, createdAt), 0)
    const at = new Date(last).toISOString()
    if (newest.size > 0 && (progress.newest === undefined || at > progress.newest)) progress.newest = at
    newest = new Map()
    waiting = 0
    onProgress?.({ ...progress })
  }
  for await (const line of lines) {
    progress.operations++
    const operation = parsed(line, progress)
    if (operation) {
      const held = newest.get(operation.did)
      if (!held || held.createdAt <= operation.createdAt) newest.set(operation.did, operation)
    }
    if (++waiting >= batchLines) await flush()
  }
  await flush()
  return progress
}

function parsed(line: string, progress: IdentityImport): PlcOperation | undefined {
  try {
    return parsePlcLine(line)
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error
    progress.refused++
    return undefined
  }
}

async function store(db: DatabasePool, operations: PlcOperation[]): Promise<number> {
  if (operations.length === 0) return 0
  operations.sort((a, b) => (a.did < b.did ? -1 : 1))
  const { rowCount } = await transaction(db, { doing: 'importing identities' }, (tx) =>
    tx.query(STORE, [
      operations.map(({ did }) => did),
      operations.map(({ document }) => JSON.stringify(withoutNul(document ?? ENDED))),
      operations.map(({ createdAt }) => createdAt),
    ]),
  )
  return rowCount ?? 0
}

/** Stored for a DID that was ended (a PLC tombstone): it has no document. */
const ENDED = { tombstone: true }

const STORE = {
  name: 'store-identities',
  text: `
    insert into did_cache as held (did, doc, "updatedAt")
    select did, doc::jsonb, at from unnest($1::text[], $2::text[], $3::bigint[]) as told (did, doc, at)
    on conflict (did) do update set doc = excluded.doc, "updatedAt" = excluded."updatedAt"
    where held."updatedAt" < excluded."updatedAt"
      or held."updatedAt" = excluded."updatedAt" and held.doc <> excluded.doc`,
}

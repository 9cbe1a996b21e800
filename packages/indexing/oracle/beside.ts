/**
 * Does, for a comparison, what the indexer does beside the data path: purges accounts whose deletion was reported, and
 * writes handles as a directory had them at that moment. (In production services confirm both. Here the PDS that
 * deleted the account is known.)
 */
import type { Network } from '@sluice/sandbox/network.ts'
import type { Index } from '../apply-batch.ts'
import { claimDeletions } from '../deletion-queue.ts'
import { claimHandleChecks } from '../handle-checks.ts'
import { endHandleChecks } from '../handles.ts'
import { purgeAccount } from '../purge.ts'

/** By DID, the verified handles at one moment. */
export type Handles = ReadonlyMap<string, string | null>

/** Asks the directory what handle an account claims, and the PDS whether the handle says the same. */
export async function lookUpHandles({ plcUrl, pds }: Network, dids: readonly string[]): Promise<Handles> {
  const found = dids.map(async (did): Promise<[string, string | null]> => {
    const { alsoKnownAs } = (await (await fetch(`${plcUrl}/${did}`)).json()) as { alsoKnownAs: string[] }
    const handle = alsoKnownAs[0]!.replace('at://', '')
    const response = await fetch(`${pds.url}/xrpc/com.atproto.identity.resolveHandle?handle=${handle}`)
    const answer = (await response.json()) as { did?: string }
    return [did, answer.did === did ? handle : null]
  })
  return new Map(await Promise.all(found))
}

/** Purges accounts that were reported deleted, then settles every handle that waits to be checked. */
export async function workBeside(index: Index, handles: Handles): Promise<void> {
  const now = new Date(Date.now() + 60_000).toISOString()
  const until = new Date(Date.now() + 3_600_000).toISOString()
  for (const claim of await claimDeletions(index.db, { now, until, limit: 100 })) {
    const purged = await purgeAccount(index, claim, { signal: new AbortController().signal, batchRecords: 20 })
    if (!purged) throw new Error(`${claim.did} is ${claim.state}, and was not purged`)
  }
  const claims = await claimHandleChecks(index.db, { now, until, shares: { new: 1_000, again: 1_000, failing: 1_000 } })
  const next = { queue: 'again' as const, dueAt: until, tries: 0 }
  await endHandleChecks(
    index.db,
    claims.map((claim) => ({ claim, handle: handles.get(claim.did) ?? null, checkedAt: now, next })),
  )
}

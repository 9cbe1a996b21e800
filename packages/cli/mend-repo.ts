/** Has the indexer mend what differs between a repository and the index: by events through the stream of exports. */
import type { RepoExport } from '@sluice/atproto/repo-export.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { classified } from '@sluice/streams/connection.ts'
import type { Session } from './session.ts'
import { forgetAge, repairEvents, type Comparison } from './verify-repo.ts'

const APPENDED = 200

/** Repairs as `verify-repo.ts` describes. May be repeated. @throws TransientError, FatalError */
export async function mendRepo(
  session: Session,
  repo: RepoExport,
  comparison: Comparison,
  { time }: { time: string },
): Promise<void> {
  const redis = await session.redis()
  await forgetAge(await session.db(), comparison)
  const { backfill } = session.settings.streams
  for (const slice of slices(repairEvents(repo, comparison, time), APPENDED)) {
    await classified(Promise.all(slice.map(async (event) => redis.xAdd(backfill, '*', streamEventCodec.encode(event)))))
  }
}

/**
 * `sluice verify`: compares what the index holds of an account with its repository. With --repair it makes the index
 * equal to the repository.
 */
import type { RepoExport } from '@sluice/atproto/repo-export.ts'
import { isDid } from '@sluice/atproto/syntax.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { streamEventCodec } from '@sluice/events/codec.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { slices } from '@sluice/runtime/slices.ts'
import { classified } from '@sluice/streams/connection.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { Network } from '../network.ts'
import { count, oneLine } from '../output.ts'
import type { Session } from '../session.ts'
import { assertInShard } from '../shard.ts'
import { compareRepo, DIFFERENCES, repairEvents, forgetAge, type Comparison } from '../verify-repo.ts'

const SHOWN = 20

export const addVerify: Add = (cli, parent) => {
  parent
    .command('verify')
    .description(
      'fetch a repository, check it, and compare it record by record with the index; exit 1 when they differ',
    )
    .argument('<did>')
    .option('--repair', 'have the indexer mend what differs')
    .addHelpText(
      'after',
      examples(
        ['sluice verify did:plc:…', 'what is missing, extra, stale or without its rows'],
        ['sluice verify did:plc:… --repair', 'mend it; verify again when the indexer is through'],
        ['sluice recount', 'afterwards: rows that were lost may still be counted'],
      ),
    )
    .action((did: string, options: { repair?: boolean }) => cli.run((session) => verify(session, did, options)))
}

async function verify(session: Session, did: string, { repair = false }: { repair?: boolean }): Promise<number> {
  const { out, settings } = session
  if (!isDid(did)) throw new CannotError(`${did} is no DID`)
  const db = await session.db()
  if (repair) {
    assertInShard(did, settings.shard)
    await session.redis() // fails before an hour of work, not after it
    if ((await bulkPhase(db)) !== undefined) throw new CannotError('a first load is under way: repair after `sluice bulk finish`') // prettier-ignore
  }
  await using network = new Network(settings, session.signal)
  const account = await network.account(did)
  const time = new Date().toISOString()
  using repo = await network.repo(account)
  const set = new CollectionSet(collections, settings.collections)
  const comparison = await compareRepo(db, set, repo, { time })
  const { differing } = comparison
  const counts = Object.fromEntries(
    DIFFERENCES.map((difference) => [difference, differing.filter((d) => d.difference === difference).length]),
  )
  if (repair && differing.length > 0) await mend(session, repo, comparison, time)
  out.document({
    ...comparison,
    pds: account.pds,
    counts,
    repaired: repair ? differing.length : 0,
  })
  out.line(`${did} at ${account.pds}: ${count(comparison.records)} records at ${comparison.rev}`)
  out.line(
    `  ${count(comparison.same)} as they should be, ${count(comparison.newer)} newer here, ${count(comparison.refused)} not indexed since they are not valid`,
  )
  if (differing.length === 0) {
    out.line(out.paint('good', '  The index equals the repository.'))
    return EXIT.done
  }
  out.line(`  ${DIFFERENCES.map((difference) => `${count(counts[difference]!)} ${difference}`).join(', ')}`)
  for (const { uri, difference } of differing.slice(0, SHOWN)) out.line(`    ${difference.padEnd(12)} ${oneLine(uri)}`)
  if (differing.length > SHOWN) out.line(`    and ${count(differing.length - SHOWN)} more (--json shows all)`)
  if (!repair) {
    out.line(`  Mend it with: sluice verify ${did} --repair`)
    return EXIT.found
  }
  out.line(
    `  ${count(differing.length)} events are in ${settings.streams.backfill}: the indexer mends it. Then verify again, and: sluice recount`,
  )
  return EXIT.done
}

const APPENDED = 200

async function mend(session: Session, repo: RepoExport, comparison: Comparison, time: string): Promise<void> {
  const redis = await session.redis()
  await forgetAge(await session.db(), comparison)
  const { backfill } = session.settings.streams
  for (const slice of slices(repairEvents(repo, comparison, time), APPENDED)) {
    await classified(Promise.all(slice.map(async (event) => redis.xAdd(backfill, '*', streamEventCodec.encode(event)))))
  }
}

/**
 * `sluice verify`: compares what the index holds of an account, or of random ones, with their repositories. With
 * --repair it makes the index equal to the repository.
 */
import { isDid } from '@sluice/atproto/syntax.ts'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { bulkPhase } from '@sluice/indexing/bulk/phase.ts'
import { wholeNumber } from '../arguments.ts'
import { CannotError, EXIT, examples, type Add } from '../cli.ts'
import { mendRepo } from '../mend-repo.ts'
import { Network } from '../network.ts'
import { count, oneLine } from '../output.ts'
import type { Session } from '../session.ts'
import { assertInShard } from '../shard.ts'
import { compareRepo, countDifferences, describeDifferences } from '../verify-repo.ts'
import { verifySample } from './verify-sample.ts'

const SHOWN = 20
const SAMPLE_MAX = 10_000

interface Options {
  sample?: number
  repair?: boolean
}

export const addVerify: Add = (cli, parent) => {
  parent
    .command('verify')
    .description(
      'fetch a repository, check it, and compare it record by record with the index; exit 1 when they differ',
    )
    .argument('[did]')
    .option('--sample <accounts>', 'so many random accounts of the index instead', wholeNumber(1, SAMPLE_MAX))
    .option('--repair', 'have the indexer mend what differs')
    .addHelpText(
      'after',
      examples(
        ['sluice verify did:plc:…', 'what is missing, extra, stale or without its rows'],
        ['sluice verify did:plc:… --repair', 'mend it; verify again when the indexer is through'],
        ['sluice verify --sample 200', 'random accounts: once a day, to see that the index is as it should be'],
        ['sluice recount', 'afterwards: rows that were lost may still be counted'],
      ),
    )
    .action((did: string | undefined, { sample, repair = false }: Options, command) => {
      if ((did === undefined) === (sample === undefined)) command.error('error: name an account, or --sample')
      return cli.run(async (session) => {
        if (did !== undefined) return verify(session, did, { repair })
        if (repair) await mayRepair(session)
        return verifySample(session, sample!, { repair })
      })
    })
}

/** Fails before an hour of work, not after it. */
async function mayRepair(session: Session): Promise<void> {
  await session.redis()
  if ((await bulkPhase(await session.db())) !== undefined) throw new CannotError('a first load is under way: repair after `sluice bulk finish`') // prettier-ignore
}

async function verify(session: Session, did: string, { repair }: { repair: boolean }): Promise<number> {
  const { out, settings } = session
  if (!isDid(did)) throw new CannotError(`${did} is no DID`)
  const db = await session.db()
  if (repair) {
    assertInShard(did, settings.shard)
    await mayRepair(session)
  }
  await using network = new Network(settings, session.signal)
  const account = await network.account(did)
  const time = new Date().toISOString()
  using repo = await network.repo(account)
  const set = new CollectionSet(collections, settings.collections)
  const comparison = await compareRepo(db, set, repo, { time })
  const { differing } = comparison
  const counts = countDifferences(differing)
  if (repair && differing.length > 0) await mendRepo(session, repo, comparison, { time })
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
  out.line(`  ${describeDifferences(counts)}`)
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

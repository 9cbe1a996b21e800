/**
 * `sluice verify --sample`: verifies random accounts of the index, so that what is wrong with it shows before a user
 * finds it. Made to be run once a day.
 */
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { isAbort } from '@sluice/runtime/errors.ts'
import { KeyedQueue } from '@sluice/runtime/keyed-queue.ts'
import { sideBySide } from '@sluice/runtime/side-by-side.ts'
import { Audit, type Checked, type NotChecked } from '../audit.ts'
import { EXIT } from '../cli.ts'
import { Network, type Account } from '../network.ts'
import { count, oneLine } from '../output.ts'
import { sampleAccounts } from '../sample-accounts.ts'
import type { Session } from '../session.ts'
import { Standings } from '../standing.ts'
import { countDifferences, describeDifferences, type Comparison, type DifferenceCounts } from '../verify-repo.ts'

/**
 * Repositories at the same time, each of another host. An export is held in memory: nearly all have some megabytes, the
 * largest 300.
 */
const REPOS = 4
/** Questions to the directory at the same time. */
const IDENTITIES = 8
/** Records of one account that are named in JSON; an index may have lost everything. */
const LISTED = 100

/**
 * Verifies as many random accounts, and tells what is wrong with each as it is found. Returns the exit code.
 * @throws TransientError, FatalError of our own stores
 */
export async function verifySample(session: Session, wanted: number, { repair }: { repair: boolean }): Promise<number> {
  const { settings, signal } = session
  const db = await session.db()
  const standings = new Standings(await session.redis(), settings)
  await using network = new Network(settings, signal)
  const set = new CollectionSet(collections, settings.collections)
  const audit = new Audit({ session, network, standings, collections: set, repair })
  const report = new Report(session)
  try {
    report.sampled = await sampleAccounts(db, { count: wanted, shard: settings.shard })
    const accounts = await sideBySide(report.sampled, IDENTITIES, async (did) => {
      signal.throwIfAborted()
      return audit.account(did)
    })
    await checkAll(audit, accounts, { report, signal })
  } catch (error) {
    // What was found until then is told.
    if (!isAbort(error) || !signal.aborted) throw error
  }
  return report.end({ repair })
}

/** One account of a host after the other, so that none is asked for more at a time than by a browser. */
async function checkAll(
  audit: Audit,
  accounts: readonly (Account | NotChecked)[],
  { report, signal }: { report: Report; signal: AbortSignal },
): Promise<void> {
  const queue = new KeyedQueue({ concurrency: REPOS, capacity: Math.max(1, accounts.length) })
  const check = async (account: Account): Promise<void> => {
    if (signal.aborted) return
    const result = await audit.check(account)
    if ('reason' in result) report.notChecked(result)
    else report.checked(result)
  }
  try {
    for (const account of accounts) {
      if ('reason' in account) report.notChecked(account)
      else await queue.push(account.pds, () => check(account), signal)
    }
  } finally {
    // Nothing of it goes on when connections are closed.
    await queue.drained()
  }
}

/** What was found so far: a line for each account with something wrong as it is found, and the sums at the end. */
class Report {
  sampled: readonly string[] = []
  readonly #session: Session
  readonly #wrong: (Comparison & { pds: string; counts: DifferenceCounts })[] = []
  readonly #left: NotChecked[] = []
  readonly #sums = { accounts: 0, records: 0, same: 0, newer: 0, refused: 0 }
  readonly #counts = countDifferences([])

  constructor(session: Session) {
    this.#session = session
  }

  notChecked(account: NotChecked): void {
    this.#left.push(account)
  }

  checked({ pds, comparison }: Checked): void {
    const { out } = this.#session
    const { did, differing, ...sums } = comparison
    this.#sums.accounts++
    for (const name of ['records', 'same', 'newer', 'refused'] as const) this.#sums[name] += sums[name]
    if (differing.length === 0) return
    const counts = countDifferences(differing)
    for (const { difference } of differing) this.#counts[difference]++
    this.#wrong.push({ ...comparison, pds, counts, differing: differing.slice(0, LISTED) })
    out.line(`${did} at ${oneLine(pds)}: ${describeDifferences(counts)}, of ${count(comparison.records)} records`)
  }

  /** Tells the sums. @returns the exit code */
  end({ repair }: { repair: boolean }): number {
    const { out, settings } = this.#session
    const { accounts, ...sums } = this.#sums
    const reasons = [...Map.groupBy(this.#left, ({ reason }) => reason)].map(([reason, of]): [string, number] => [reason, of.length]) // prettier-ignore
    const notChecked = Object.fromEntries(reasons)
    const [asked, wrong] = [this.sampled.length, this.#wrong.length]
    const found = { sampled: asked, checked: accounts, wrong, ...sums, counts: this.#counts, notChecked }
    out.document({ ...found, accounts: this.#wrong, left: this.#left, repaired: repair ? wrong : 0 })
    out.line(`${count(accounts)} of ${count(asked)} accounts checked, with ${count(sums.records)} records: ${describeDifferences(this.#counts)}`) // prettier-ignore
    out.line(`  ${count(sums.newer)} newer here, ${count(sums.refused)} not indexed since they are not valid`)
    if (reasons.length > 0)
      out.line(`  not checked: ${reasons.map(([reason, n]) => `${count(n)} ${reason}`).join(', ')}`)
    if (asked === 0) out.line('  the index holds no did:plc (of this shard)')
    if (wrong > 0) out.line(repair
      ? `  their events are in ${settings.streams.backfill}: the indexer mends them. Then: sluice recount`
      : '  Look at one with: sluice verify <did>; mend it with: sluice verify <did> --repair') // prettier-ignore
    if (accounts === 0) return EXIT.away
    return wrong > 0 && !repair ? EXIT.found : EXIT.done
  }
}

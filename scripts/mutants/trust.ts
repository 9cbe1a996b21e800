/**
 * Faults of whom a few words make us purge, believe or ask, and of options on which an operator relies after a loss.
 */
import { killersIn, type Mutant } from './mutant.ts'

const atproto = killersIn('packages/atproto')
const cli = killersIn('packages/cli', 'pg')
const ingester = killersIn('services/ingester', 'redis')
const indexer = killersIn('services/indexer')
const backfiller = killersIn('services/backfiller')

const accounts: readonly Mutant[] = [
  {
    name: 'an account of an old host, which does not know getRepoStatus, is purged',
    file: 'services/indexer/delete-accounts.ts',
    find: "found = { ...found, kind: 'hosted', active: true }",
    replace: "found = { kind: 'gone' }",
    killedBy: indexer('deletions.e2e', 'a deletion that is not so'),
  },
  {
    name: 'a PLC directory that does not know an account has it purged',
    file: 'services/indexer/hosting-status.ts',
    find: "resolution.status === 'missing' && web !== undefined",
    replace: "resolution.status === 'missing'",
    killedBy: indexer('hosting-status.e2e', 'the PLC directory forgets nobody'),
  },
  {
    name: 'the word of a host counts for less than a deletion that is dated ahead',
    file: 'services/indexer/delete-accounts.ts',
    find: 'Math.max(askedAtMs, Date.parse(deletedAt) + 1)',
    replace: 'askedAtMs',
    killedBy: indexer('deletions.e2e', 'dated ahead of our clock'),
  },
  {
    name: 'a return is forgotten before its repository is asked for',
    file: 'services/indexer/delete-accounts.ts',
    find: '    await reopenAccount(this.#db, claim, signal)\n',
    replace: '    await reopenAccount(this.#db, claim, signal)\n    await forgetDeletion(this.#db, did)\n',
    killedBy: indexer('deletions.e2e', 'of a returned account'),
  },
  {
    name: 'the repository of an account that is found to be active again is not asked for',
    file: 'services/ingester/account-check.ts',
    find: 'if (values.length > 0) also.push',
    replace: 'if (values.length > 1e9) also.push',
    killedBy: ingester('account-check', 'found to be active again'),
  },
]

const believed: readonly Mutant[] = [
  {
    name: 'a revoked key is believed as long as this process remembers it',
    file: 'services/ingester/signing-keys.ts',
    find: '    this.#accounts.delete(did)\n',
    replace: '',
    killedBy: ingester('revoked-key'),
  },
  {
    name: 'a revoked key is believed as long as Redis remembers it',
    file: 'services/ingester/signing-keys.ts',
    find: '() => this.#resolver.purge(did)',
    replace: '() => Promise.resolve()',
    killedBy: ingester('revoked-key'),
  },
  {
    name: 'after the commit object anything may follow',
    file: 'packages/atproto/signed-commit.ts',
    find: 'if (end !== block.length)',
    replace: 'if (end > block.length)',
    killedBy: atproto('commit-refusals', 'bytes after the commit'),
  },
  {
    name: 'with INGESTER_VERIFY=off a labeler that nobody configured need not sign',
    file: 'services/ingester/build.ts',
    find: "config.verify === 'full' || !isConfigured ? this.#keys",
    replace: "config.verify === 'full' ? this.#keys",
    killedBy: ingester('labeler-discovery', 'has to sign'),
  },
  {
    name: 'a stranger has us connect to a private address',
    file: 'services/ingester/build.ts',
    find: 'publicOnly: !isConfigured && !config.allowPrivate',
    replace: 'publicOnly: false',
    killedBy: ingester('labeler-discovery', 'at a private address'),
  },
  {
    name: 'a repository whose account changed its key is not looked at with the new one',
    file: 'services/backfiller/backfill-repo.ts',
    find: 'if (fresh === undefined || fresh === signingKey) throw error',
    replace: 'if (fresh !== signingKey || fresh === signingKey) throw error',
    killedBy: backfiller('options.e2e', 'changed its key'),
  },
  {
    name: 'who writes a domain in another case is another owner',
    file: 'packages/atproto/did-web.ts',
    find: '.toLowerCase()',
    replace: '',
    killedBy: backfiller('letter-shares', 'one owner'),
  },
]

const losses: readonly Mutant[] = [
  {
    name: 'a repair deletes what is newer here than the export',
    file: 'packages/cli/verify-repo.ts',
    find: "    if (isNewer(row, rev)) comparison.newer++\n    else comparison.differing.push({ uri: row.uri, difference: 'extra' })",
    replace: "    comparison.differing.push({ uri: row.uri, difference: 'extra' })",
    killedBy: cli('verify-repo', 'are newer here'),
  },
  {
    name: 'a relay that was set up anew is begun now, and not at its oldest event',
    file: 'services/ingester/relay.ts',
    find: 'source.progress.highest ?? initialCursor',
    replace: 'source.progress.highest || initialCursor',
    killedBy: ingester('relay', 'set up anew without a word'),
  },
  {
    name: 'the stream of labels has no high-water mark',
    file: 'services/ingester/build.ts',
    find: 'labelEventCodec, config.labelHighWater)',
    replace: 'labelEventCodec, 1e9)',
    killedBy: ingester('labels', 'a full stream of labels'),
  },
  {
    name: 'BACKFILLER_EXPORTS=resync is read, and nothing more',
    file: 'services/backfiller/backfiller.ts',
    find: "alwaysResync: config.exports === 'resync'",
    replace: 'alwaysResync: false',
    killedBy: backfiller('options.e2e', 'BACKFILLER_EXPORTS'),
  },
]

export const trustMutants: readonly Mutant[] = [...accounts, ...believed, ...losses]

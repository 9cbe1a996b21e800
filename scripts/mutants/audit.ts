/**
 * Faults of what an operator sees of single frames and accounts, and of what is refused or late: samples, spot audits,
 * lines, lists.
 */
import { killersIn, type Mutant } from './mutant.ts'

const streams = killersIn('packages/streams', 'redis')
const ingester = killersIn('services/ingester', 'redis')
const standing = killersIn('packages/cli', 'redis')
const audit = (test: string) => ({ file: 'packages/cli/audit.e2e.test.ts', test })

export const auditMutants: readonly Mutant[] = [
  {
    name: 'of one reason any number of samples is kept',
    file: 'packages/streams/lua/refused.lua',
    find: '#kept - first + 1 > tonumber(ARGV[3]) or ',
    replace: '',
    killedBy: streams('refused-frames', 'a flood of one reason'),
  },
  {
    name: 'samples of one reason may be of any size together',
    file: 'packages/streams/lua/refused.lua',
    find: ' or bytes > tonumber(ARGV[4])',
    replace: '',
    killedBy: streams('refused-frames', 'of large frames'),
  },
  {
    name: 'a sample that cannot be stored whole is stored in part',
    file: 'packages/streams/lua/refused.lua',
    find: "redis.call('HLEN', KEYS[2])\n",
    replace: '',
    killedBy: streams('refused-frames', 'of another program'),
  },
  {
    name: 'every frame of a flood is stored as a sample',
    file: 'services/ingester/refusal-samples.ts',
    find: ' || !own.has(now)',
    replace: '',
    killedBy: ingester('refusal-samples', 'of a flood five are stored'),
  },
  {
    name: 'samples of all reasons together have no rate',
    file: 'services/ingester/refusal-samples.ts',
    find: ' || !this.#all.has(now)',
    replace: '',
    killedBy: ingester('refusal-samples', 'of floods of every reason'),
  },
  {
    name: 'while Redis does not answer any number of samples is held',
    file: 'services/ingester/refusal-samples.ts',
    find: 'this.#waiting.length >= WAITING_MAX || ',
    replace: '',
    killedBy: ingester('refusal-samples', 'while Redis does not answer'),
  },
  {
    name: 'a sample that cannot be stored ends the ingester',
    file: 'services/ingester/refusal-samples.ts',
    find: '        () => false,\n',
    replace: '',
    killedBy: ingester('refusal-samples', 'where samples cannot be stored'),
  },
  {
    name: 'the bytes of a sample are those that its memory has later',
    file: 'packages/streams/refused-frames.ts',
    find: 'bytes: bytes && Buffer.from(bytes.subarray(0, FRAME_BYTES_MAX)),',
    replace: 'bytes: bytes?.subarray(0, FRAME_BYTES_MAX),',
    killedBy: ingester('refusal-samples', 'while Redis does not answer'),
  },
  {
    name: 'of an op that was left out there is no sample',
    file: 'services/ingester/pipeline.ts',
    find: 'this.#tellOfOps(taken, verification)\n',
    replace: '',
    killedBy: ingester('refusal-samples', 'a refused frame is found'),
  },
  {
    name: 'a spot audit that finds a missing record says that nothing is wrong',
    file: 'packages/cli/audit.ts',
    find: 'if (first.differing.length === 0)',
    replace: 'if (first.differing.length < 9)',
    killedBy: audit('of accounts of a real PDS'),
  },
  {
    name: 'to a spot audit what is under way is wrong',
    file: 'packages/cli/audit.ts',
    find: "if (standing !== 'indexed') return { did, reason: standing, detail: `at ${repo.rev}` }",
    replace: '',
    killedBy: audit('of accounts of a real PDS'),
  },
  {
    name: 'a spot audit does not look again',
    file: 'packages/cli/audit.ts',
    find: 'const comparison = inBoth(first, await this.#compare(repo, time))',
    replace: 'const comparison = inBoth(first, first)',
    killedBy: audit('of accounts of a real PDS'),
  },
  {
    name: 'a host that asks for a pause is asked for the next account',
    file: 'packages/cli/audit.ts',
    find: "if (reason === 'rate-limited') this.#failures.set(pds, Infinity)",
    replace: "if (reason === 'rate-limited') this.#failures.set(pds, 0)",
    killedBy: audit('a host that asks for a pause'),
  },
  {
    name: 'nothing that waits in a stream keeps an account from counting as indexed',
    file: 'packages/cli/standing.ts',
    find: 'if (left && left.length > 0) return false',
    replace: '',
    killedBy: standing('standing', 'what has arrived is indexed'),
  },
  {
    name: 'a rev that has not arrived counts as indexed at once',
    file: 'packages/cli/standing.ts',
    find: "return isYoung || isAhead ? 'on-its-way' : 'arrived'",
    replace: "return isAhead ? 'on-its-way' : 'arrived'",
    killedBy: standing('standing', 'is on its way while it is young'),
  },
  {
    name: 'a random account is looked for in the whole table',
    file: 'packages/cli/sample-accounts.ts',
    find: 'order by actor_sync.did limit 1',
    replace: 'order by random() limit 1',
    killedBy: { file: 'packages/cli/plans.e2e.test.ts', test: 'what is asked about one thing' },
  },
  {
    name: 'each reason for a dead letter has a line for each letter',
    file: 'services/indexer/refusal-log.ts',
    find: 'note(seen, reason, () => `${subjectOf',
    replace: 'note(seen, `${reason} ${entryId}`, () => `${subjectOf',
    killedBy: killersIn('services/indexer')('refusal-log', '10,000 dead letters'),
  },
  {
    name: 'what the indexer stores beyond its list is not in exports',
    file: 'services/backfiller/backfiller.ts',
    find: 'wantedCollections(config.collections, config.indexerCollections)',
    replace: 'wantedCollections(config.collections, [])',
    killedBy: { file: 'services/backfiller/collections.e2e.test.ts', test: 'what the indexer stores beyond it' },
  },
  {
    name: 'each minute of a storm of resyncs is another one',
    file: 'services/ingester/resync-storm.ts',
    find: 'if (this.#isTold || this.#count < STORM_RESYNCS) return',
    replace: 'if (this.#count < STORM_RESYNCS) return',
    killedBy: killersIn('services/ingester')('resync-storm'),
  },
  {
    name: 'a list that a gate names lets nobody in',
    file: 'packages/collections/threads/judge.ts',
    find: 'return facts.inList(rule.list, did, at)',
    replace: 'return false',
    killedBy: killersIn('packages/simulator', 'pg')('compare', 'world of seed'),
  },
  {
    name: 'verdicts are not compared with the truth',
    file: 'packages/simulator/compare.ts',
    find: "verdicts(truth, counts, read('post'))",
    replace: '[]',
    killedBy: killersIn('packages/simulator', 'pg')('compare', 'a wrong column'),
  },
]

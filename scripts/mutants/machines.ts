/** Faults of what is installed and started on machines that are not ours. */
import { killersIn, type Mutant } from './mutant.ts'

const unit = killersIn('scripts')

export const machineMutants: readonly Mutant[] = [
  {
    name: 'what the former primary held is believed of its standby',
    file: 'services/indexer/build.ts',
    find: 'actors.forgetAll()',
    replace: 'undefined',
    killedBy: { file: 'services/indexer/failover.e2e.test.ts', test: 'gets its actor with the next one' },
  },
  {
    name: 'npm start waits for a store that has ended',
    file: 'packages/sandbox/start.ts',
    find: ', stores.ended()',
    replace: '',
    killedBy: { file: 'packages/sandbox/start.e2e.test.ts', test: 'ends by itself, npm start says so' },
  },
  {
    name: 'a Redis that takes no writes is not seen in /ready of the ingester',
    file: 'services/ingester/build.ts',
    find: 'readiness.block(what, error.message)',
    replace: '',
    killedBy: { file: 'services/ingester/durability.redis.test.ts', test: 'while Redis takes no writes' },
  },
  {
    name: 'a standby that was promoted is no news',
    file: 'services/indexer/failover-watch.ts',
    find: 'owed.push({ before, timeline })',
    replace: '{}',
    killedBy: { file: 'services/indexer/failover.e2e.test.ts', test: 'the failover is an incident' },
  },
  {
    name: "a binding is built by the node-gyp of Debian's npm",
    file: 'scripts/run.mjs',
    find: '  npm_config_node_gyp: undefined,\n',
    replace: '',
    killedBy: unit('run', "a binding is built by pnpm's own node-gyp"),
  },
  {
    name: 'a missing Redis is found out after the install',
    file: 'scripts/run.mjs',
    find: "startsRedis() && !hasRedis() ? [...compilers, 'redis-server'] : compilers",
    replace: 'compilers',
    killedBy: unit('run', 'what npm cannot bring is named at once'),
  },
  {
    name: 'an image that was built from a checkout under a strict umask cannot be read by its user',
    file: 'Dockerfile.indexer',
    find: 'RUN chmod -R a+rX packages services\n',
    replace: '',
    killedBy: unit('containers', 'lets the user of the image read'),
  },
  {
    name: 'a machine that does not know localhost is found out when the test network fails',
    file: 'scripts/run.mjs',
    find: "if (addresses.some(({ address }) => address === '127.0.0.1')) return undefined",
    replace: 'if (addresses.length >= 0) return undefined',
    killedBy: unit('run', 'told with its mend, before anything is fetched'),
  },
  {
    name: 'an empty LABELER_HOSTS in .env reads the labels of the network',
    file: 'docker-compose.yml',
    find: 'LABELER_HOSTS: ${LABELER_HOSTS-$',
    replace: 'LABELER_HOSTS: ${LABELER_HOSTS:-$',
    killedBy: unit('deployments', 'reads the labels of the network unless'),
  },
  {
    name: 'a lost group is told twice, by a page and by a ticket',
    file: 'infra/prometheus/alerts.yml',
    find: '|group-lost|phantom-entries"}[1h]',
    replace: '"}[1h]',
    killedBy: unit('monitoring', 'an incident of any kind'),
  },
  {
    name: 'the drain of a node waits for a store that is away',
    file: 'infra/k8s/indexer.yaml',
    find: '  unhealthyPodEvictionPolicy: AlwaysAllow\n',
    replace: '',
    killedBy: unit('kubernetes', 'a node can be drained though a store is away'),
  },
  {
    name: 'many hosts that the operator names stop the ingester by its metrics',
    file: 'packages/runtime/metrics.ts',
    find: 'if (!configured.includes(label)) ours *= values.length',
    replace: 'ours *= values.length',
    killedBy: { file: 'packages/runtime/metrics.test.ts', test: 'values that configuration names' },
  },
  {
    name: 'two streams of one role may have the same name',
    file: 'packages/runtime/config.ts',
    find: 'const taken = new Set(others.flatMap((other) => [other, ...alsoTaken(other)]))',
    replace: 'const taken = new Set(others.flatMap((other) => alsoTaken(other)))',
    killedBy: { file: 'packages/runtime/config.test.ts', test: 'names that must differ' },
  },
  {
    name: 'the backfiller may write into the priority stream of its own queue',
    file: 'packages/streams/stream-names.ts',
    find: 'return [priority, deadLetterStream(stream), deadLetterStream(priority), refusedStream(stream)]',
    replace: 'return [deadLetterStream(stream), deadLetterStream(priority), refusedStream(stream)]',
    killedBy: { file: 'services/backfiller/config.test.ts', test: 'BACKFILLER_FIREHOSE_STREAM=' },
  },
  {
    name: 'a folder for large repositories that cannot be written is found out by the first one',
    file: 'services/backfiller/main.ts',
    find: '    assertSpoolFolder(config.spoolDir)\n',
    replace: '',
    killedBy: { file: 'services/backfiller/spool-folder.e2e.test.ts' },
  },
  {
    name: 'a fault of ours counts as a silence of DNS',
    file: 'packages/atproto/handle-resolver.ts',
    find: '  if (!isOfDns(error)) throw error\n',
    replace: '',
    killedBy: { file: 'packages/atproto/handle-resolver.e2e.test.ts', test: 'a fault of ours' },
  },
]

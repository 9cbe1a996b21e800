/** Faults of what is installed and started on machines that are not ours. */
import { killersIn, type Mutant } from './mutant.ts'

const unit = killersIn('scripts')

export const machineMutants: readonly Mutant[] = [
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
]

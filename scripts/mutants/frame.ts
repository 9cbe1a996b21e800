/** Faults of what holds the daemons: their frame, their metrics, their connections, their containers. */
import { killersIn, type Mutant } from './mutant.ts'

const runtime = killersIn('packages/runtime')
const backfiller = killersIn('services/backfiller')
const database = killersIn('packages/database', 'pg')
const scripts = killersIn('scripts')

export const frameMutants: readonly Mutant[] = [
  {
    name: 'a service that is aborted, though nobody told it to stop, ends without a word',
    file: 'packages/runtime/service.ts',
    find: 'if (signal.aborted && isAbort(error)) return',
    replace: 'if (isAbort(error)) return',
    killedBy: runtime('service', 'an AbortError is how a service ends'),
  },
  {
    name: 'a service is restarted without a wait',
    file: 'packages/runtime/service.ts',
    find: '    await sleep(delayMs, signal).catch(() => {})\n',
    replace: '',
    killedBy: runtime('service', 'the wait before a restart'),
  },
  {
    name: 'what is closed when all is done may take for ever',
    file: 'packages/runtime/main.ts',
    find: "    shutdown.begin('all services have ended')\n",
    replace: '',
    killedBy: runtime('main', 'what is closed when there is nothing more to run'),
  },
  {
    name: 'each wait for room leaves a listener at the signal of the process',
    file: 'packages/runtime/budget.ts',
    find: "      signal.removeEventListener('abort', leave)\n",
    replace: '      void leave\n',
    killedBy: runtime('budget', 'leaves nothing at a signal'),
  },
  {
    name: 'a permit is lost when its work was taken out while it was asked for',
    file: 'services/backfiller/host-queues.ts',
    find: "      void asked.permit.release({ verdict: 'nothing' })\n",
    replace: '',
    killedBy: backfiller('host-queues', 'leaves its permit to others'),
  },
  {
    name: 'quick hosts have more work under way than there are places',
    file: 'services/backfiller/host-queues.ts',
    find: '      if (this.#running >= this.#options.concurrency) return\n',
    replace: '',
    killedBy: backfiller('host-queues', 'never is more work under way'),
  },
  {
    name: 'the memory that was reserved for a host that may not be asked is lost',
    file: 'services/backfiller/host-queues.ts',
    find: '      reserved[Symbol.dispose]()\n',
    replace: '',
    killedBy: backfiller('host-queues', 'keeps nothing of what its work would have needed'),
  },
  {
    name: 'a session of a server that has become a standby is lent again and again',
    file: 'packages/database/transaction.ts',
    find: 'verdictOf(cause)?.discard === true || !(await rolledBack(client))',
    replace: '!(await rolledBack(client))',
    killedBy: database('transaction', 'a session that takes no writes'),
  },
  {
    name: 'a server that is gone without a word is waited for',
    file: 'packages/database/pool.ts',
    find: '      ...(statementMs > 0 && { query_timeout: statementMs + ANSWER_GRACE_MS }),\n',
    replace: '',
    killedBy: database('pool', 'an answer that never comes'),
  },
  {
    name: 'acked entries are not counted',
    file: 'services/indexer/consumer-observer.ts',
    find: 'counters.acked.inc(entries, { stream })',
    replace: 'void entries',
    killedBy: killersIn('services/indexer')('consumer-observer', 'what becomes of the entries'),
  },
  {
    name: 'later tries of what goes first are not told',
    file: 'services/backfiller/progress.ts',
    find: 'later: later + laterFirst',
    replace: 'later',
    killedBy: killersIn('services/backfiller', 'redis')('progress', 'what is left is told'),
  },
  {
    name: 'a consumer asks for as many large entries as for small ones',
    file: 'packages/streams/intake.ts',
    find: '      this.#size.saw(bytes)\n',
    replace: '',
    killedBy: killersIn('packages/streams', 'redis')('consumer', 'what is held is bounded in bytes'),
  },
  {
    name: 'a full stream of dead letters is a warning',
    file: 'packages/cli/doctor/stream-rules.ts',
    find: 'const isFull = total >= cap',
    replace: 'const isFull = total > cap',
    killedBy: killersIn('packages/cli/doctor')('limits', 'dead letters are a warning'),
  },
  {
    name: 'a daemon in a container does not come back by itself',
    file: 'docker-compose.yml',
    find: '  restart: unless-stopped\n  # The daemons drain',
    replace: '  # The daemons drain',
    killedBy: scripts('supervision', 'come back by themselves'),
  },
  {
    name: 'Redis keeps its AOF beside its volume',
    file: 'docker-compose.yml',
    find: '      - redis:/data\n',
    replace: '      - redis:/var/lib/redis\n',
    killedBy: scripts('supervision', 'what the stores keep is on volumes'),
  },
  {
    name: 'a pod is restarted while a store is away at its start',
    file: 'infra/k8s/backfiller.yaml',
    find: '          startupProbe:\n            httpGet: { path: /health, port: metrics }',
    replace: '          startupProbe:\n            httpGet: { path: /ready, port: metrics }',
    killedBy: scripts('supervision', 'is not restarted for an outage'),
  },
]

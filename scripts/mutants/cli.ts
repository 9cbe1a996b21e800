/** Faults in the command line. */
import { killersIn, type Mutant } from './mutant.ts'

const pg = killersIn('packages/cli', 'pg')
const redis = killersIn('packages/cli', 'redis')
const unit = killersIn('packages/cli')

export const cliMutants: readonly Mutant[] = [
  {
    name: 'who has committed since a time is not told from who has not',
    file: 'packages/streams/chain-state.ts',
    find: '.rev >= rev ? ',
    replace: ".rev !== '' ? ",
    killedBy: redis('queue-room', 'every account that has committed since a time'),
  },
  {
    name: 'a command works on a PostgreSQL that is too old',
    file: 'packages/cli/session.ts',
    find: 'await assertServerVersion(db)',
    replace: "await db.query('select 1')",
    killedBy: pg('reach', 'a server that is too old'),
  },
  {
    name: 'a Redis that is too old looks like one that lacks a permission',
    file: 'packages/cli/system-state.ts',
    find: '  await assertRedisVersion(redis)\n',
    replace: '',
    killedBy: { file: 'packages/cli/doctor-servers.e2e.test.ts', test: 'a Redis that is too old' },
  },
  {
    name: 'connections that PostgreSQL reserves count as free',
    file: 'packages/cli/postgres-state.ts',
    find: "\n           - coalesce(current_setting('reserved_connections', true)::int, 0)",
    replace: '',
    killedBy: { file: 'packages/cli/doctor-servers.e2e.test.ts', test: 'connections that it does not reserve' },
  },
  {
    name: 'what goes through a table reads it anew for each page',
    file: 'packages/cli/session.ts',
    find: 'byKey: true,',
    replace: '',
    killedBy: { file: 'packages/cli/plans.e2e.test.ts', test: 'what goes through a table' },
  },
  {
    name: 'a part of a number is a number',
    file: 'packages/cli/arguments.ts',
    find: '/^\\d+$/.test(text) && value >= min',
    replace: 'value >= min',
    killedBy: unit('cli', 'is a wrong command line'),
  },
  {
    name: 'a warning about the set-up is called the cause of a lag',
    file: 'packages/cli/doctor/summary.ts',
    find: 'found.find((id) => CAUSES.has(id))',
    replace: 'found[0]',
    killedBy: unit('doctor/diagnose', 'only what can hold up the data'),
  },
  {
    name: 'an old dead letter is all that is said of a record that is in the index',
    file: 'packages/cli/commands/explain.ts',
    find: 'if (!record && !tombstone && queued.entries.length === 0) return',
    replace: 'if (queued.entries.length === 0) return',
    killedBy: { file: 'packages/cli/repositories.e2e.test.ts', test: '100 damaged records' },
  },
  {
    name: 'seeds that end before they begin are a run of nothing that went well',
    file: 'packages/simulator/simulate.ts',
    find: 'return last >= first',
    replace: 'return true',
    killedBy: { file: 'packages/sandbox/command-line.e2e.test.ts', test: 'does not start with' },
  },
  {
    name: 'an option of ours need not have its form',
    file: 'packages/sandbox/command-line.ts',
    find: 'form?.fits(value) === false',
    replace: 'form === undefined',
    killedBy: { file: 'packages/sandbox/command-line.e2e.test.ts', test: 'a bench of a part' },
  },
]

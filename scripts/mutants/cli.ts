/** Faults in the command line. */
import { killersIn, type Mutant } from './mutant.ts'

const pg = killersIn('packages/cli', 'pg')

export const cliMutants: readonly Mutant[] = [
  {
    name: 'a command works on a PostgreSQL that is too old',
    file: 'packages/cli/session.ts',
    find: 'await assertServerVersion(db)',
    replace: "await db.query('select 1')",
    killedBy: pg('reach', 'a server that is too old'),
  },
  {
    name: 'what goes through a table reads it anew for each page',
    file: 'packages/cli/session.ts',
    find: 'byKey: true,',
    replace: '',
    killedBy: { file: 'packages/cli/plans.e2e.test.ts', test: 'what goes through a table' },
  },
]

/** What a shell makes of a printed mend: returns the statements that its `psql` commands get, in order. */
import { spawnSync } from 'node:child_process'

/** @throws Error when the shell cannot read it */
export function statementsOf(mend: string): string[] {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', `psql() { printf '%s\\0' "$3"; }\n${mend}`], {
    env: { PATH: process.env.PATH, DB_POSTGRES_URL: 'postgres://' },
    encoding: 'utf8',
  })
  if (status !== 0) throw new Error(`sh: ${status} ${stderr}: ${mend}`)
  return stdout.split('\0').slice(0, -1)
}

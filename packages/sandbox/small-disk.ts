/**
 * A disk that can be full: a tmpfs, which is shrunk to what it holds. It is for the append-only file of Redis, or for
 * PostgreSQL's tables, whose user owns it. The log of that server lies elsewhere, as on one that was set up with care:
 * without room for it the server would end. Only root may mount; without it there is no such disk.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmdirSync, statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { postgresHome } from './postgres-home.ts'

const NAME = 'sluice-small-disk-'
const SIZE = '1g'

export class SmallDisk {
  readonly path: string

  /** At an early end too: a mount outlives us. */
  readonly #atExit = (): void => unmount(this.path)

  private constructor(path: string) {
    this.path = path
    process.once('exit', this.#atExit)
  }

  /** Undefined where nothing can be mounted. */
  static mount(): SmallDisk | undefined {
    const { user } = postgresHome()
    if (user === undefined) return undefined
    unmountStale()
    const path = join(tmpdir(), `${NAME}${process.pid}`)
    mkdirSync(path)
    if (mounted(['-t', 'tmpfs', '-o', `size=${SIZE},mode=0700,uid=${user.uid},gid=${user.gid}`, 'tmpfs', path]))
      return new SmallDisk(path)
    rmdirSync(path)
    return undefined
  }

  /** No room is left: no page more. @throws Error when it grows faster than it is filled */
  fill(): void {
    for (let tries = 0; ; tries++) {
      const { bsize, blocks, bfree } = statfsSync(this.path)
      // What is written in between makes the kernel refuse.
      if (mounted(['-o', `remount,size=${(blocks - bfree) * bsize}`, this.path])) return
      if (tries > 500) throw new Error(`${this.path} does not become full`)
    }
  }

  /** There is room again. */
  clear(): void {
    if (!mounted(['-o', `remount,size=${SIZE}`, this.path])) throw new Error(`${this.path} stays full`)
  }

  /** After the server has ended. */
  [Symbol.dispose](): void {
    process.off('exit', this.#atExit)
    unmount(this.path)
  }
}

function mounted(args: readonly string[]): boolean {
  return spawnSync('mount', args, { stdio: 'ignore' }).status === 0
}

/** Of a process that was killed: nobody else takes its disk away. */
function unmountStale(): void {
  for (const line of readFileSync('/proc/mounts', 'utf8').split('\n')) {
    const path = line.split(' ')[1] ?? ''
    const pid = new RegExp(`^${tmpdir()}/${NAME}(\\d+)$`).exec(path)?.[1]
    if (pid !== undefined && !isAlive(Number(pid))) unmount(path)
  }
}

function unmount(path: string): void {
  spawnSync('umount', ['--lazy', path], { stdio: 'ignore' })
  rmdirSync(path)
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/**
 * Gives a server less memory than the machine has: a control group for the server and all its processes, whose limit includes the kernel's cache of its files. So a small index can be
 * many times larger than memory, as the index of a whole network is.
 *
 * Needs root, and a kernel that allows control groups (version 1 or 2). Memory pages that the server touched before the limit do not count.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { childrenOf } from './cpu.ts'

const V1 = '/sys/fs/cgroup/memory'
const V2 = '/sys/fs/cgroup'

/**
 * Limits the process `pid`, its children, and all processes that these start. Dispose of the result when they have ended.
 * @throws Error when this machine does not allow control groups
 */
export function limitMemory(pid: number, megabytes: number): Disposable {
  const isV1 = existsSync(join(V1, 'memory.limit_in_bytes'))
  const group = join(isV1 ? V1 : V2, `sluice-bench-${process.pid}`)
  try {
    if (!isV1) writeFileSync(join(V2, 'cgroup.subtree_control'), '+memory')
    mkdirSync(group)
    writeFileSync(join(group, isV1 ? 'memory.limit_in_bytes' : 'memory.max'), String(megabytes * 1024 * 1024))
    for (const each of [pid, ...childrenOf(pid)]) writeFileSync(join(group, 'cgroup.procs'), String(each))
  } catch (error) {
    throw new Error(
      `cannot limit PostgreSQL's memory: ${(error as Error).message}. --postgres-mb needs root and control groups`,
      { cause: error },
    )
  }
  return { [Symbol.dispose]: () => removeGroup(group) }
}

/** Removes the control group, which is possible only when its last process has ended. */
function removeGroup(group: string): void {
  if (readFileSync(join(group, 'cgroup.procs'), 'utf8').trim() === '') rmdirSync(group)
}

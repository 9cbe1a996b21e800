/**
 * A server that has less memory than the machine: a control group for it and all its processes, whose limit counts what the kernel caches of its files too. So the index of
 * a network that is many times larger than memory can be measured with a small one.
 *
 * Needs root, and a kernel that lets us make control groups (version 1 or 2). Pages that were touched before do not count.
 */
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { childrenOf } from './cpu.ts'

const V1 = '/sys/fs/cgroup/memory'
const V2 = '/sys/fs/cgroup'

/**
 * Limits the process `pid`, its children and all that they will start, until they have ended and this is disposed of.
 * @throws Error when this machine has no such groups for us
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

/** A group goes when its last process has. */
function removeGroup(group: string): void {
  if (readFileSync(join(group, 'cgroup.procs'), 'utf8').trim() === '') rmdirSync(group)
}

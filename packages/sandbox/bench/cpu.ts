/** CPU time of processes, from /proc: user and system, of the process and of children that it has reaped. */
import { readdirSync, readFileSync } from 'node:fs'

const TICKS_PER_SECOND = 100

/** The CPU seconds of a process; 0 when it has ended. */
export function cpuSecondsOf(pid: number, withReaped = false): number {
  const stat = statOf(pid)
  if (!stat) return 0
  const ticks = stat.slice(11, withReaped ? 15 : 13).reduce((sum, value) => sum + Number(value), 0)
  return ticks / TICKS_PER_SECOND
}

/** The CPU seconds of a server and all processes that it started, including those that have ended. */
export function cpuSecondsOfTree(pid: number): number {
  return cpuSecondsOf(pid, true) + childrenOf(pid).reduce((sum, child) => sum + cpuSecondsOf(child), 0)
}

/** The child processes of `pid` that still run. */
export function childrenOf(pid: number): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && statOf(Number(name))?.[1] === String(pid))
    .map(Number)
}

/** The fields after the process name (which may contain spaces): state, ppid, … (proc(5)). */
function statOf(pid: number): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return undefined
  }
}

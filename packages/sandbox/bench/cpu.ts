/** CPU time of processes and of the machine, from /proc. Of a process it is user and system time, of itself and of children that it has reaped. */
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

/** The seconds for which cores of this machine were busy with anything, since it started: without idle time, waits for disks, and what the host took. */
export function cpuSecondsOfMachine(): number {
  const [user, nice, system, , , irq, softirq] = readFileSync('/proc/stat', 'utf8').split(/\s+/, 8).slice(1).map(Number)
  return (user! + nice! + system! + irq! + softirq!) / TICKS_PER_SECOND
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

/**
 * What we start must not outlive us, however we end.
 *
 * A shell of one megabyte waits on a pipe from this process. As long as we live it only keeps a list: process ids with the
 * signal that stops each cleanly, and directories to remove. When the pipe closes (return, `process.exit`, crash, SIGKILL)
 * it stops what is still on the list, kills what did not go within ten seconds, removes the directories, and ends.
 *
 * It runs in its own session, so a Ctrl-C in the terminal reaches us and not it. One guard serves the whole process; it is
 * started by the first registration and never keeps the event loop alive.
 *
 * Measured against the alternatives: a Node process as guard costs 45 MB and 40 ms a piece; PR_SET_PDEATHSIG is lost when
 * the starting *thread* ends (test workers are threads) and knows one signal only.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const SCRIPT = fileURLToPath(new URL('guard.sh', import.meta.url))

let guard: ChildProcess | undefined

/** From now on process `pid` gets `signal` when we are gone, and SIGKILL when that does not end it. */
export function guardProcess(pid: number, signal: NodeJS.Signals): void {
  tell(`+ ${pid} ${signal.slice('SIG'.length)}`)
}

/** Process `pid` has ended; its number may be given to another. */
export function unguardProcess(pid: number): void {
  tell(`- ${pid}`)
}

/** From now on the directory is removed when we are gone. Its path holds no white space. */
export function guardDirectory(path: string): void {
  if (!/^\/[^\s]+\/[^\s]+$/.test(path)) throw new Error(`not a path that the guard may remove: ${JSON.stringify(path)}`)
  tell(`dir ${path}`)
}

export function unguardDirectory(path: string): void {
  tell(`nodir ${path}`)
}

/** Whether a command line is a guard's: the one child that is meant to outlive us, for a moment. */
export function isGuard(commandLine: string): boolean {
  return commandLine.endsWith(SCRIPT)
}

function tell(line: string): void {
  guard ??= startGuard()
  guard.stdin!.write(`${line}\n`)
}

function startGuard(): ChildProcess {
  const child = spawn('sh', [SCRIPT], { cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  child.unref()
  // The pipe is a socket; as a handle it would hold the event loop.
  ;(child.stdin as unknown as { unref(): void }).unref()
  return child
}

/** Finds processes and connections that a test leaves behind. */
import { childProcesses } from './children.ts'

/**
 * Remembers the child processes that exist now. The returned function throws when there are others, and ends these, so
 * that the next test is not affected.
 */
export function noProcessLeft(who: string): () => Promise<void> {
  const before = new Set(childProcesses())
  return async () => {
    const left = await stillLeft(async () => childProcesses().filter((process) => !before.has(process)))
    for (const line of left) process.kill(Number.parseInt(line, 10), 'SIGKILL')
    if (left.length > 0) throw new Error(`${who} left processes running:\n${left.join('\n')}`)
  }
}

/**
 * Asks until the answer is empty, for up to four seconds: a closed connection or a killed child is gone only a moment
 * later, and on a busy machine a moment is long. Less than Vitest gives a hook (ten seconds): the answer says what is
 * left, and the hook's end would not.
 */
export async function stillLeft(ask: () => Promise<string[]>): Promise<string[]> {
  const deadline = Date.now() + 4_000
  for (;;) {
    const left = await ask()
    if (left.length === 0 || Date.now() > deadline) return left
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

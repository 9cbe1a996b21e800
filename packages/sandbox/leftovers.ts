/** What a test leaves behind. */
import { childProcesses } from './children.ts'

/**
 * Remembers the processes of this moment; the function returned throws when there are others, and ends them, so that the
 * next test does not pay for them.
 */
export function noProcessLeft(who: string): () => Promise<void> {
  const before = new Set(childProcesses())
  return async () => {
    const left = await settled(async () => childProcesses().filter((process) => !before.has(process)))
    for (const line of left) process.kill(Number.parseInt(line, 10), 'SIGKILL')
    if (left.length > 0) throw new Error(`${who} left processes running:\n${left.join('\n')}`)
  }
}

/** A connection that was closed, a child that was killed, is gone a moment later: asks again for up to two seconds. */
export async function settled(ask: () => Promise<string[]>): Promise<string[]> {
  const deadline = Date.now() + 2_000
  for (;;) {
    const left = await ask()
    if (left.length === 0 || Date.now() > deadline) return left
    await new Promise((resolve) => setTimeout(resolve, 25))
  }
}

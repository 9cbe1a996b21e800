/** What a daemon holds after a garbage collection, asked of the daemon itself: `memory-probe.ts` answers in it. */
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import type { Daemon } from '@sluice/sandbox/daemon.ts'

export const PROBE_MARK = 'memory probe '

/** For `System.start`: daemons that can be asked. */
export const PROBED = ['--expose-gc', '--import', fileURLToPath(new URL('memory-probe.ts', import.meta.url))]

const ANSWER_MS = 60_000

/** Heap and buffers in MB, all garbage collected. @throws Error when it does not answer */
export async function heldMb(daemon: Daemon): Promise<number> {
  const before = answersOf(daemon).length
  await daemon.kill('SIGUSR2')
  const deadline = Date.now() + ANSWER_MS
  for (;;) {
    const answers = answersOf(daemon)
    if (answers.length > before) return answers.at(-1)!.bytes / 2 ** 20
    if (Date.now() > deadline || !daemon.isRunning) throw new Error(`${daemon.role} does not tell what it holds`)
    await delay(20)
  }
}

function answersOf({ logLines }: Daemon): { bytes: number }[] {
  return logLines.flatMap((line) =>
    line.startsWith(PROBE_MARK) ? [JSON.parse(line.slice(PROBE_MARK.length)) as { bytes: number }] : [],
  )
}

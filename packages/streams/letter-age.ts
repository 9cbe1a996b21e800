/**
 * How old the dead letters of a stream are, those included that were put back. An entry that was put back has a new id
 * and waits among younger entries, though its contents are as old as before.
 */
import { classified, type Redis } from './connection.ts'
import { selectDeadLetters } from './dead-letters.ts'
import { runScript, scripts } from './scripts.ts'

/**
 * Entries that the script looks at in one call. It holds them meanwhile, which may be a hundred records of a megabyte.
 */
const PAGE_ENTRIES = 100

/**
 * When the oldest entry that is a dead letter, or was one and waits to be tried again, first came (Unix ms). 0 when one
 * of these entries does not say when; undefined when there are none. A letter that is put back, or becomes a dead
 * letter again, while this runs is not missed.
 * @throws TransientError, FatalError
 */
export async function oldestLetterMs(redis: Redis, stream: string): Promise<number | undefined> {
  const before = await oldestRetried(redis, stream, '-')
  const buried: number[] = []
  for await (const letters of selectDeadLetters(redis, stream, 'all')) {
    for (const { firstId } of letters) buried.push(Number.parseInt(firstId) || 0)
  }
  // Entries that were put back meanwhile are behind everything that was in the stream before.
  const since = await oldestRetried(redis, stream, before.last === '' ? '-' : `(${before.last}`)
  const all = [before.ms, since.ms, ...buried].filter((ms) => ms >= 0)
  return all.length === 0 ? undefined : all.reduce((a, b) => Math.min(a, b))
}

/** The oldest entry that was put back; `ms` is -1 when there is none. */
async function oldestRetried(redis: Redis, stream: string, from: string): Promise<{ last: string; ms: number }> {
  const found = { last: '', ms: -1 }
  for (let start = from; ;) {
    const [last, ms] = await page(redis, stream, start)
    if (last === '') return found
    if (ms >= 0 && (found.ms < 0 || ms < found.ms)) found.ms = ms
    found.last = last
    start = `(${last}`
  }
}

async function page(redis: Redis, stream: string, start: string): Promise<[last: string, ms: number]> {
  const script = runScript(redis, scripts.oldestRetried, [stream], [start, String(PAGE_ENTRIES)])
  return (await classified(script)) as [string, number]
}

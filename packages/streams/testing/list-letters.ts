/** Reads dead letters, in the order in which they were stored. */
import type { Redis } from '../connection.ts'
import { selectDeadLetters, type DeadLetter } from '../dead-letters.ts'

/** The first `count` dead letters of a stream. */
export async function listDeadLetters(redis: Redis, stream: string, count: number): Promise<DeadLetter[]> {
  const letters: DeadLetter[] = []
  for await (const page of selectDeadLetters(redis, stream, 'all')) {
    letters.push(...page)
    if (letters.length >= count) break
  }
  return letters.slice(0, count)
}

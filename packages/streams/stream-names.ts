/**
 * Names of streams in one Redis. Two streams must not have the same name: entries of one kind would be read as another
 * kind.
 */
import { priorityStream } from './backfill-queue.ts'
import { deadLetterStream } from './dead-letters.ts'

/**
 * The streams that are created beside a stream. Only a queue of repositories gets a priority stream; for other streams
 * the name stays unused, and nothing else needs it.
 */
export function streamsBeside(stream: string): string[] {
  const priority = priorityStream(stream)
  return [priority, deadLetterStream(stream), deadLetterStream(priority)]
}

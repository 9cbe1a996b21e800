/**
 * Names of streams in one Redis. Two streams must not have the same name: entries of one kind would be read as another
 * kind.
 */
import { priorityStream } from './backfill-queue.ts'
import { deadLetterStream } from './dead-letters.ts'
import { refusedStream } from './refused-frames.ts'

/**
 * The streams that are created beside a stream. Only a queue of repositories gets a priority stream, and only a stream
 * of what upstreams send has samples of what was refused; for other streams these names stay unused, and nothing else
 * needs them.
 */
export function streamsBeside(stream: string): string[] {
  const priority = priorityStream(stream)
  return [priority, deadLetterStream(stream), deadLetterStream(priority), refusedStream(stream)]
}

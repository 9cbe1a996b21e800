/** Names of streams in one Redis: where two things have the same one, entries of one kind would be read as another's. */
import { priorityStream } from './backfill-queue.ts'
import { deadLetterStream } from './dead-letters.ts'

/** The streams that come to be beside one. A queue of repositories has a priority stream; of others nobody makes one, and nobody needs the name. */
export function streamsBeside(stream: string): string[] {
  const priority = priorityStream(stream)
  return [priority, deadLetterStream(stream), deadLetterStream(priority)]
}

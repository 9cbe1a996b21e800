/** Finds the stream that a command names, and the group that reads it. */
import { deadLetterStream } from '@sluice/streams/dead-letters.ts'
import { CannotError } from './cli.ts'
import { readingsOf, type Reading, type Settings } from './config.ts'

/**
 * Finds a stream by its own name or by that of its dead letters.
 * @throws CannotError that names the streams that exist
 */
export function readingNamed(settings: Settings, name: string): Reading {
  const readings = readingsOf(settings)
  const found = readings.find(({ stream }) => stream === name || deadLetterStream(stream) === name)
  if (found) return found
  throw new CannotError(`there is no stream ${name}; there are ${readings.map(({ stream }) => stream).join(', ')}`)
}

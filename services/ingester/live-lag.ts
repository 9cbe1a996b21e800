/**
 * How far the live stream is behind, as any process can read it from Redis. A sweep must not take for missing what is
 * still on its way.
 */
import { classified, type Redis } from '@sluice/streams/connection.ts'
import { timeKey } from '@sluice/streams/cursors.ts'

/**
 * The age of the event at a relay's cursor, in ms; 0 when nothing was ever read. Each relay has its own: with one
 * figure for all, a dead relay would keep a sweep from requesting what the others list. For a silent relay it is more
 * than the lag, so a sweep leaves what happened since that event to the next sweep.
 * @throws TransientError
 */
export async function liveLagMs(redis: Redis, stream: string, host: string): Promise<number> {
  const time = await classified(redis.get(timeKey(stream, host)))
  const ageMs = Date.now() - Date.parse(time ?? '')
  return Number.isNaN(ageMs) ? 0 : Math.max(0, ageMs)
}

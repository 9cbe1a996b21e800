/** How far the live stream is behind, as any process can read it from Redis: a sweep must not take for missing what is still to come. */
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { timeKey } from '@sluice/streams/cursors.ts'

/**
 * The age of the event at a relay's cursor, in ms; 0 when nothing was ever read. Of each relay by itself: one that is dead would keep a sweep from asking for
 * anything that another lists. On a relay that is silent this is more than the truth, so that a sweep leaves to the next one what happened since.
 * @throws TransientError
 */
export async function liveLagMs(redis: Redis, stream: string, host: string): Promise<number> {
  const time = await redis.get(timeKey(stream, host)).catch((error: unknown) => {
    throw classifyRedisError(error)
  })
  const ageMs = Date.now() - Date.parse(time ?? '')
  return Number.isNaN(ageMs) ? 0 : Math.max(0, ageMs)
}

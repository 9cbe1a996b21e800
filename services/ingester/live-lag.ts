/** How far the live stream is behind, as any process can read it from Redis: a sweep must not take for missing what is still to come. */
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'
import { timeKey } from '@sluice/streams/cursors.ts'

/**
 * The age of the event at the cursor that lies furthest back, in ms; 0 when nothing was ever read. On a relay that is silent this is
 * more than the truth, so that a sweep leaves to the next one what happened since.
 * @throws TransientError
 */
export async function liveLagMs(redis: Redis, stream: string, hosts: readonly string[]): Promise<number> {
  const times = await redis.mGet(hosts.map((host) => timeKey(stream, host))).catch((error: unknown) => {
    throw classifyRedisError(error)
  })
  const ages = times.map((time) => Date.now() - Date.parse(time ?? '')).filter((age) => !Number.isNaN(age))
  return Math.max(0, ...ages)
}

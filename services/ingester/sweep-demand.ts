/** How a sweep is asked for, by whatever process finds that something may be missing: a key that says why. */
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'

/** `<repo stream>:sweep`: why a sweep is wanted; absent when none is. */
export const sweepDemandKey = (repoStream: string): string => `${repoStream}:sweep`

/** `<repo stream>:swept`: when the last one ended (ISO 8601). */
export const sweptKey = (repoStream: string): string => `${repoStream}:swept`

/** Asks for a sweep. @throws TransientError */
export async function demandSweep(redis: Redis, repoStream: string, why: string): Promise<void> {
  try {
    // The time makes it another demand than one that is just being met.
    await redis.set(sweepDemandKey(repoStream), `${why} (${new Date().toISOString()})`)
  } catch (error) {
    throw classifyRedisError(error)
  }
}

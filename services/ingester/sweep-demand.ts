/** How a process that finds that something may be missing requests a sweep: a key that says why. */
import { sweepDemandKey } from '@sluice/streams/backfill-queue.ts'
import { classifyRedisError, type Redis } from '@sluice/streams/connection.ts'

/** Asks for a sweep. @throws TransientError */
export async function demandSweep(redis: Redis, repoStream: string, why: string): Promise<void> {
  try {
    // The time makes it another demand than one that is just being met.
    await redis.set(sweepDemandKey(repoStream), `${why} (${new Date().toISOString()})`)
  } catch (error) {
    throw classifyRedisError(error)
  }
}

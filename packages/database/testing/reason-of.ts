/** Tells errors of the database apart. */
import { PoolStarvedError, verdictOf, type DatabaseReason } from '../errors.ts'

/** The reason of an error, raw or classified; undefined when the error is not the database's. */
export function reasonOf(error: unknown): DatabaseReason | undefined {
  if (error instanceof PoolStarvedError) return 'pool-starved'
  return verdictOf(error)?.reason ?? (error instanceof Error ? verdictOf(error.cause)?.reason : undefined)
}

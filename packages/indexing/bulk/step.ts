/** What a step of the end of a bulk load works with, and how it reports how far it is. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface FinishProgress {
  step: string
  /** How far it is: an index, a key, a URI. */
  at: string
}

export type OnProgress = (progress: FinishProgress) => void

export interface StepContext {
  db: DatabasePool
  collections: CollectionSet
  signal: AbortSignal
  onProgress: OnProgress
  /** How many parts of the step run side by side. */
  jobs: number
}

/** What a step of the end of a bulk load works with, and how it tells how far it is. */
import type { CollectionSet } from '@sluice/collections/collection-set.ts'
import type { DatabasePool } from '@sluice/database/pool.ts'

export interface FinishProgress {
  step: string
  /** Where it is: an index, a key, a URI. */
  at: string
}

export type OnProgress = (progress: FinishProgress) => void

export interface StepContext {
  db: DatabasePool
  collections: CollectionSet
  signal: AbortSignal
  onProgress: OnProgress
  /** Parts of the step side by side. */
  jobs: number
}

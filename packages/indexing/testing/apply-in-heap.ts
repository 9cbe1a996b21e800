/**
 * Applies a batch in a worker thread with a limited heap (`applyInHeap`); a full heap ends the thread. The rest of the
 * file is what the thread runs.
 */
import { once } from 'node:events'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { collections } from '@sluice/collections/collections.ts'
import { CollectionSet } from '@sluice/collections/collection-set.ts'
import { DatabasePool } from '@sluice/database/pool.ts'
import type { StreamEvent } from '@sluice/events/stream-event.ts'
import { applyBatch, type Applied } from '../apply-batch.ts'
import { KnownActors } from '../own.ts'

interface Work {
  url: string
  events: readonly StreamEvent[]
}

/** Rejects with ERR_WORKER_OUT_OF_MEMORY when applying the events takes more than `heapMb`. */
export async function applyInHeap(url: string, events: readonly StreamEvent[], heapMb: number): Promise<Applied> {
  const work: Work = { url, events }
  const worker = new Worker(new URL(import.meta.url), {
    workerData: work,
    resourceLimits: { maxOldGenerationSizeMb: heapMb },
  })
  try {
    return ((await once(worker, 'message')) as [Applied])[0]
  } finally {
    await worker.terminate()
  }
}

async function work({ url, events }: Work): Promise<Applied> {
  const db = new DatabasePool({ url, schema: 'bsky', size: 2, role: 'test' })
  try {
    return await applyBatch({ db, collections: new CollectionSet(collections), actors: new KnownActors() }, events)
  } finally {
    await db.close()
  }
}

if (!isMainThread && (workerData as Partial<Work> | null)?.events) {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of a thread has no origin
  parentPort!.postMessage(await work(workerData as Work))
}

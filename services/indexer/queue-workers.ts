/**
 * Workers of durable queues. Each queue has workers of its own: accounts that wait for slow hosts in one queue do not
 * delay the accounts of another queue.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { isAbort, TransientError } from '@sluice/runtime/errors.ts'

export interface WorkersOptions<Queue extends string, Claim> {
  /** How many workers each queue has. */
  workers: Record<Queue, number>
  /** Takes up to `limit` items that are due at `now`. Nobody else gets them until `until` (both ISO 8601). */
  claim: (wanted: { queue: Queue; now: string; until: string; limit: number }) => Promise<readonly Claim[]>
  work: (claim: Claim, queue: Queue, signal: AbortSignal) => Promise<void>
  claimMs: number
  /** How long a worker waits after it found nothing due in its queue. */
  pollMs: number
}

/**
 * Works on the queues until the signal; each worker takes one claim after the other. The first failure ends all
 * workers.
 * @throws what a worker threw. A TransientError during a stop is not thrown: claims are durable and expire by the
 * clock, so nothing is lost when a stop does not wait for a store that is away
 */
export async function runWorkers<Queue extends string, Claim>(
  options: WorkersOptions<Queue, Claim>,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController()
  const ends = AbortSignal.any([signal, failed.signal])
  let first: { error: unknown } | undefined
  const queues = Object.entries(options.workers) as [Queue, number][]
  const workers = queues.flatMap(([queue, count]) => Array.from({ length: count }, () => queue))
  const next = oneAtATime(options, ends)
  const ended = workers.map((queue) =>
    serve(options, queue, next, ends).catch((error: unknown) => {
      first ??= { error }
      failed.abort()
    }),
  )
  await Promise.all(ended)
  if (!first) return
  const { error } = first
  if (!signal.aborted || !(isAbort(error) || error instanceof TransientError)) throw error
}

/**
 * Claims items one at a time, for all workers. If all workers claimed at once, as they would at the start, each would
 * take a connection at that moment and keep other work waiting for one. After a failure nobody claims any more.
 */
function oneAtATime<Queue extends string, Claim>(
  { claim, claimMs }: WorkersOptions<Queue, Claim>,
  signal: AbortSignal,
): (queue: Queue) => Promise<Claim | undefined> {
  let last: Promise<readonly Claim[]> = Promise.resolve([])
  return async (queue) => {
    last = last.then(() => {
      signal.throwIfAborted()
      const nowMs = Date.now()
      const [now, until] = [new Date(nowMs).toISOString(), new Date(nowMs + claimMs).toISOString()]
      return claim({ queue, now, until, limit: 1 })
    })
    return (await last)[0]
  }
}

async function serve<Queue extends string, Claim>(
  { work, pollMs }: WorkersOptions<Queue, Claim>,
  queue: Queue,
  next: (queue: Queue) => Promise<Claim | undefined>,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const taken = await next(queue)
    if (taken) await work(taken, queue, signal)
    else await sleep(pollMs, signal)
  }
}

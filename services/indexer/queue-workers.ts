/**
 * Workers of durable queues, so many for each queue: what waits for others' hosts in one keeps nobody out of another.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { isAbort, TransientError } from '@sluice/runtime/errors.ts'

export interface WorkersOptions<Queue extends string, Claim> {
  /** How many of each. */
  workers: Record<Queue, number>
  /** Takes the next that is due and nobody else's until `until` (ISO 8601). */
  claim: (queue: Queue, now: string, until: string) => Promise<Claim | undefined>
  work: (claim: Claim, queue: Queue, signal: AbortSignal) => Promise<void>
  claimMs: number
  /** From a queue in which nothing is due to the next look at it. */
  pollMs: number
}

/**
 * Works queues off until the signal, each worker one claim after the other. The first failure ends them all.
 * @throws what a worker threw. Not for stores that are away at a stop: claims are durable and end by the clock, so nothing is lost by not waiting
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
 * Takes the next of a queue. Workers that all look at once, as at the start, would each take a connection at that moment, and keep others waiting for one. After a
 * failure nobody looks any more.
 */
function oneAtATime<Queue extends string, Claim>(
  { claim, claimMs }: WorkersOptions<Queue, Claim>,
  signal: AbortSignal,
): (queue: Queue) => Promise<Claim | undefined> {
  let last: Promise<Claim | undefined> = Promise.resolve(undefined)
  return async (queue) => {
    last = last.then(() => {
      signal.throwIfAborted()
      const nowMs = Date.now()
      return claim(queue, new Date(nowMs).toISOString(), new Date(nowMs + claimMs).toISOString())
    })
    return await last
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

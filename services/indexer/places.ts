/**
 * Places at durable queues: of each queue so many are worked on at a time, so that what waits for others' hosts in one keeps nobody out of another.
 */
import { sleep } from '@sluice/runtime/backoff.ts'
import { isAbort, TransientError } from '@sluice/runtime/errors.ts'

export interface PlacesOptions<Queue extends string, Claim> {
  /** How many of each. */
  places: Record<Queue, number>
  /** Takes the next that is due and nobody else's until `until` (ISO 8601). */
  claim: (queue: Queue, now: string, until: string) => Promise<Claim | undefined>
  work: (claim: Claim, signal: AbortSignal) => Promise<void>
  claimMs: number
  /** From a queue in which nothing is due to the next look at it. */
  pollMs: number
}

/**
 * Works queues off until the signal, each place one claim after the other. The first failure ends them all.
 * @throws what a place threw. Not for stores that are away at a stop: claims are durable and end by the clock, so nothing is lost by not waiting
 */
export async function servePlaces<Queue extends string, Claim>(
  options: PlacesOptions<Queue, Claim>,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController()
  const ends = AbortSignal.any([signal, failed.signal])
  let first: { error: unknown } | undefined
  const queues = Object.entries(options.places) as [Queue, number][]
  const places = queues.flatMap(([queue, count]) => Array.from({ length: count }, () => queue))
  const ended = places.map((queue) =>
    serve(options, queue, ends).catch((error: unknown) => {
      first ??= { error }
      failed.abort()
    }),
  )
  await Promise.all(ended)
  if (!first) return
  const { error } = first
  if (!signal.aborted || !(isAbort(error) || error instanceof TransientError)) throw error
}

async function serve<Queue extends string, Claim>(
  { claim, work, claimMs, pollMs }: PlacesOptions<Queue, Claim>,
  queue: Queue,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    const nowMs = Date.now()
    const [now, until] = [nowMs, nowMs + claimMs].map((ms) => new Date(ms).toISOString())
    const taken = await claim(queue, now!, until!)
    if (taken) await work(taken, signal)
    else await sleep(pollMs, signal)
  }
}

/**
 * How far away a server is, and how far its clock is ahead. Of some questions the one that was answered first counts:
 * the others were held up here, in a process that has just started, or by what else the server was doing for a moment.
 */

export interface RoundTrip {
  latencyMs: number
  /** How far the server's clock is ahead of ours. */
  clockAheadMs: number
}

const QUESTIONS = 3

/** @param askTimeMs asks the server for its time (Unix ms). @throws what that throws */
export async function measureRoundTrip(
  askTimeMs: () => Promise<number>,
  now = () => performance.now(),
): Promise<RoundTrip> {
  let best: RoundTrip | undefined
  for (let asked = 0; asked < QUESTIONS; asked++) {
    const started = now()
    const sentMs = Date.now()
    const serverMs = await askTimeMs()
    const latencyMs = now() - started
    if (best !== undefined && latencyMs >= best.latencyMs) continue
    best = { latencyMs, clockAheadMs: serverMs - (sentMs + latencyMs / 2) }
  }
  return best!
}

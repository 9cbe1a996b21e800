/**
 * The ledger of an upstream: how many of its frames ended how, since ever. The ingester counts in the step that moves
 * the cursor, so that nothing is counted twice and nothing is missing.
 */
import { classified, type Redis } from './connection.ts'

/** `<stream>:ledger:<host>`: a hash, outcome → how many frames. */
export const ledgerKey = (stream: string, host: string): string => `${stream}:ledger:${host}`

/** How many frames of the host ended how; empty when none ever did. @throws TransientError */
export async function readLedger(redis: Redis, stream: string, host: string): Promise<Map<string, number>> {
  const counts = await classified(redis.hGetAll(ledgerKey(stream, host)))
  return new Map(Object.entries(counts).map(([outcome, count]) => [outcome, Number(count)]))
}

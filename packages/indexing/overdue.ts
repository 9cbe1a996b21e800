/** How long the work in a durable queue has been overdue. The first row of the queue tells, whatever its length. */
import type { Statement } from '@sluice/collections/depends.ts'
import type { Session } from '@sluice/database/pool.ts'

/**
 * Builds a statement that returns for each queue a row with `queue` and its earliest `dueAt` or null.
 * @param conditions by queue, the condition of its rows; each needs an index by "dueAt"
 */
export function oldestOf(table: string, conditions: Readonly<Record<string, string>>): string {
  return Object.entries(conditions)
    .map(
      ([queue, where]) => `select '${queue}' as queue, (select min("dueAt") from ${table} where ${where}) as "dueAt"`,
    )
    .join(' union all ')
}

/**
 * How many seconds each queue is overdue; 0: nothing is due. A claimed row is due when its claim ends.
 * @throws TransientError, FatalError
 */
export async function overdueSeconds<Queue extends string>(
  db: Session,
  { queues, oldest }: { queues: readonly Queue[]; oldest: Statement },
  now: Date,
): Promise<Record<Queue, number>> {
  const { rows } = await db.query<{ queue: Queue; dueAt: string | null }>(oldest)
  const dueMs = new Map(rows.map(({ queue, dueAt }) => [queue, dueAt === null ? Infinity : Date.parse(dueAt)]))
  // Other tools may have written a text that is no date: then the difference is NaN, and counts as 0.
  const secondsOf = (queue: Queue): number => Math.max(0, (now.getTime() - dueMs.get(queue)!) / 1_000) || 0
  return Object.fromEntries(queues.map((queue) => [queue, secondsOf(queue)])) as Record<Queue, number>
}

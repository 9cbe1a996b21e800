/** How long what is due in a durable queue has been so: told by its first row, whatever its length. */
import type { Statement } from '@sluice/collections/define.ts'
import type { Session } from '@sluice/database/pool.ts'

/** @param conditions of each queue of the table, by its name: each must have an index by "dueAt" @returns a statement of one row each: `queue`, and its first `dueAt` or null */
export function oldestOf(table: string, conditions: Readonly<Record<string, string>>): string {
  return Object.entries(conditions)
    .map(
      ([queue, where]) => `select '${queue}' as queue, (select min("dueAt") from ${table} where ${where}) as "dueAt"`,
    )
    .join(' union all ')
}

/** In seconds, by queue; 0: nothing is due. A row that is claimed is due when the claim ends. @throws TransientError, FatalError */
export async function overdueSeconds<Queue extends string>(
  db: Session,
  { queues, oldest }: { queues: readonly Queue[]; oldest: Statement },
  now: Date,
): Promise<Record<Queue, number>> {
  const { rows } = await db.query<{ queue: Queue; dueAt: string | null }>(oldest)
  const dueMs = new Map(rows.map(({ queue, dueAt }) => [queue, dueAt === null ? Infinity : Date.parse(dueAt)]))
  // What other tools wrote there may be no time.
  const secondsOf = (queue: Queue): number => Math.max(0, (now.getTime() - dueMs.get(queue)!) / 1_000) || 0
  return Object.fromEntries(queues.map((queue) => [queue, secondsOf(queue)])) as Record<Queue, number>
}

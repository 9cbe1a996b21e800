/** Carries out a printed mend as an operator would: runs its `psql`, `redis-cli` and `sluice` commands, in order. */
import { queryOnce } from '@sluice/sandbox/postgres.ts'
import type { Redis } from '@sluice/streams/connection.ts'
import { runCli } from './run.ts'

const COMMAND =
  /psql "\$DB_POSTGRES_URL" -c '((?:[^']|'\\'')+)'|redis-cli -u "\$REDIS_URL" (.+?)(?=\s{2}|;|$)|sluice ([a-z][^;(]*)/g

/**
 * Returns how many commands it ran.
 * @throws Error when one fails
 */
export async function applyMend(mend: string, redis: Redis, env: Record<string, string>): Promise<number> {
  const commands = [...mend.matchAll(COMMAND)]
  for (const [text, sql, redisCli, sluice] of commands) {
    if (sql !== undefined) await queryOnce(env.DB_POSTGRES_URL!, sql.replaceAll(String.raw`'\''`, "'"))
    if (redisCli !== undefined) await redis.sendCommand(redisCli.trim().split(/\s+/))
    if (sluice === undefined) continue
    const said = await runCli(sluice.trim().split(/\s+/), env)
    if (said.code !== 0) throw new Error(`${text}: ${said.code} ${said.stderr}`)
  }
  return commands.length
}

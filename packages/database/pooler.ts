/**
 * Finds out whether a pooler between us and PostgreSQL lends one session of the server to several connections.
 *
 * PgBouncer in the modes `transaction` and `statement` does, and so do others. What belongs to a session then meets
 * another one: search_path, time zone and limits, prepared statements, advisory locks. At best a statement fails; at
 * worst it runs in the schema of another program.
 *
 * PostgreSQL tells each connection the number of its process (BackendKeyData), and a pooler tells a number of its own.
 * So a connection to PostgreSQL itself is known without a question more. Behind a pooler two connections are compared.
 */
import { Client } from 'pg'
import type { ClientBase } from 'pg'
import { FatalError } from '@sluice/runtime/errors.ts'

/** How often the two connections are compared. The first time is enough where nobody else uses the pooler. */
const ROUNDS = 8
/** How long the second connection may keep us waiting. */
const ANOTHER_MS = 3_000

export const POOLER_ADVICE =
  'let DB_POSTGRES_URL lead to PostgreSQL itself, or to a pooler in session mode (PgBouncer: pool_mode=session)'

/**
 * @param pid what `pg_backend_pid()` has just said on this connection
 * @returns whether it is certain that the connection has a session for itself; false: it leads to a pooler, which had
 * no
 *   second connection to compare
 * @throws FatalError when the pooler lends its session to others too
 */
export async function assertOwnSession(client: ClientBase, pid: number, url: string): Promise<boolean> {
  if ((client as unknown as { processID: number | null }).processID === pid) return true
  const another = new Client({
    connectionString: url,
    application_name: 'sluice-probe',
    connectionTimeoutMillis: ANOTHER_MS,
    query_timeout: ANOTHER_MS,
  })
  another.on('error', () => {})
  try {
    await another.connect()
    await compare(client, another)
    return true
  } catch (error) {
    if (error instanceof FatalError) throw error
    return false
  } finally {
    await another.end()
  }
}

/** The number of the server's process. */
export async function backendPid(client: ClientBase): Promise<number> {
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return rows[0]!.pid
}

/**
 * Two connections that are both open must have two sessions, and keep them. The first is asked twice before the other
 * one is: a pooler that hands its sessions out in turn could otherwise give each connection the same one every time.
 */
async function compare(client: ClientBase, another: ClientBase): Promise<void> {
  const own = await backendPid(client)
  for (let round = 0; round < ROUNDS; round++) {
    const isKept = (await backendPid(client)) === own
    if (isKept && (await backendPid(another)) !== own) continue
    throw new FatalError(
      'a pooler before PostgreSQL lends one session to several connections, as PgBouncer does with pool_mode=transaction or statement: ' +
        `search_path, limits, prepared statements and locks would be mixed up. Next: ${POOLER_ADVICE}`,
    )
  }
}

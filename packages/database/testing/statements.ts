/** What tests of the schema do with a database: by a connection of their own, with pg alone. */
import { Client } from 'pg'

/** The schema of these tests. */
export const SCHEMA = 'bsky'

/** Connects, and disconnects when `act` is done. */
export async function withClient<T>(url: string, act: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client(url)
  await client.connect()
  try {
    return await act(client)
  } finally {
    await client.end()
  }
}

/** Runs the statements, one after the other, in the schema. */
export async function run(url: string, ...statements: string[]): Promise<void> {
  await withClient(url, async (client) => {
    await client.query(`set search_path to ${SCHEMA}, public`)
    for (const statement of statements) await client.query(statement)
  })
}

/** The error with which the promise rejects. @throws Error when it does not */
export async function failure(promise: Promise<unknown>): Promise<Error> {
  return await promise.then(
    () => {
      throw new Error('it did not fail')
    },
    (error: Error) => error,
  )
}

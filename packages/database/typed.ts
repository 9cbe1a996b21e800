/**
 * Statements, built with kysely, whose tables, columns and rows the compiler checks: a column that `schema.ts` does not
 * have is an error of `npm run check`, and the type of a row follows from the statement. They are used by the command
 * line and the phases of a bulk load. On the data path statements are plain SQL, since they are prepared by name and
 * take arrays.
 */
import {
  type Compilable,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
} from 'kysely'
import type { QueryResultRow } from 'pg'
import type { Session } from './pool.ts'
import type { Schema } from './schema.ts'

/**
 * Builds statements and runs none: connections, limits and retries are those of `DatabasePool`, not of a second driver.
 */
export const build = new Kysely<Schema>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: (db) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/**
 * The rows of a statement made with `build`.
 * @throws TransientError, FatalError
 */
export async function rowsOf<Row>(db: Pick<Session, 'query'>, statement: Compilable<Row>): Promise<Row[]> {
  const { sql, parameters } = statement.compile()
  return (await db.query<Row & QueryResultRow>(sql, [...parameters])).rows
}

/** The first row of a statement, or undefined. */
export async function firstRowOf<Row>(
  db: Pick<Session, 'query'>,
  statement: Compilable<Row>,
): Promise<Row | undefined> {
  return (await rowsOf(db, statement))[0]
}

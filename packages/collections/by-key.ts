/**
 * SQL conditions that leave the planner one way only: to look up each key in the right index.
 *
 * The planner estimates by the statistics of the tables, and a prepared statement keeps its plan until the statistics
 * change. Both may be from a time when the tables were nearly empty. On a nearly empty table two wrong choices look
 * free:
 * - To read an index from end to end costs no more than one lookup. Later each batch read all records to rewrite a few
 *   of them.
 * - Of two indexes either looks fine. Later all likes of a post were read to find one like.
 *
 * So statements are written such that only one plan exists for them, at any size of the tables
 * (`packages/indexing/plans.pg.test.ts`).
 *
 * A plain `column = value` is enough in two places: where the value is a parameter, and in a subquery that the planner
 * does not merge into the statement around it (a scalar subquery, or LATERAL with OFFSET 0).
 */

/**
 * `column = value`, where the value is a column of another relation in the same FROM. A plain equality would also allow
 * a merge join, which reads a whole index in its order. `= any(array[…])` allows none. With 8,000 keys it takes as long
 * as the equality.
 */
export function keyed(column: string, value: string): string {
  return `${column} = any(array[${value}])`
}

/**
 * The WHERE … ORDER BY … LIMIT 1 of a subquery that finds the one row of a key of several columns.
 *
 * Equalities on these columns would match every index that begins with one of them: to find one like, all likes of its
 * post might be read. The comparison of rows (`(a, b) >= (x, y)`) matches only indexes that begin with the same column
 * `a`. Among these, only the index over exactly these columns delivers the order that LIMIT 1 asks for; the data path's
 * connections have incremental sort turned off, so no other index can deliver it by sorting parts. No slower than the
 * equalities.
 * @param key the value of each column, in the order of the index
 */
export function oneOfKey(key: Readonly<Record<string, string>>): string {
  const columns = Object.keys(key).join(', ')
  const values = Object.values(key).join(', ')
  return `where (${columns}) >= (${values}) and (${columns}) <= (${values}) order by ${columns} limit 1`
}

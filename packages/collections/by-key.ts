/**
 * Conditions by which PostgreSQL looks into an index for a key, and cannot do otherwise.
 *
 * Its planner goes by what it was told of the tables, and a plan is kept for as long as nobody tells more; both may be from when they were nearly empty. To read an index from end to
 * end costs no more then than one look, so each batch read all records to write some of them anew; and of two indexes that either is fine, so for one like all likes
 * of its post were read. So statements are written in such a way that there is one plan for them, at any size (`packages/indexing/plans.pg.test.ts`).
 *
 * `column = value` alone does that where the value is a parameter, and in a subquery that is not merged into the statement around it: scalar, or LATERAL with OFFSET 0.
 */

/**
 * `column = value`, where the value is a column of another relation of the same FROM. As an equality it would also be a way to merge the two, for which an index may be read in its
 * order, all of it. As long with 8,000 keys as the equality.
 */
export function keyed(column: string, value: string): string {
  return `${column} = any(array[${value}])`
}

/**
 * WHERE … ORDER BY … LIMIT 1 of a subquery for the row of one key of several columns, in the order of the index over them. As equalities they would match each index that begins with one of
 * the columns, and all likes of a post might be read for one of them. A comparison of rows matches none that begins with another; and of those that begin
 * with the same only the right one gives the order in which one row is the first (connections that find by key sort nothing by parts). No slower than the equalities.
 * @param key by column, in the order of the index
 */
export function oneOfKey(key: Readonly<Record<string, string>>): string {
  const columns = Object.keys(key).join(', ')
  const values = Object.values(key).join(', ')
  return `where (${columns}) >= (${values}) and (${columns}) <= (${values}) order by ${columns} limit 1`
}

/** Rows against rows, as lines. */
import type { Row } from './true-rows.ts'

/** Columns with JSON as text: the order of its keys is of no account. */
const JSON_TEXT: ReadonlySet<string> = new Set(['json', 'descriptionFacets'])

/**
 * Each missing row, each row that should not be, and each wrong column, as a line. A column that one side has and the
 * other has not is wrong.
 * @param key the columns that name a row; of several rows with one key each is compared
 * @param apart columns that are left out
 */
export function rowDifferences(
  table: string,
  {
    key,
    expected,
    found,
    apart = [],
  }: { key: readonly string[]; expected: readonly Row[]; found: readonly Row[]; apart?: readonly string[] },
): string[] {
  const keyOf = (row: Row): string => key.map((column) => row[column]).join(' ')
  const [wanted, held] = [expected, found].map((rows) => Map.groupBy(rows, keyOf))
  const lines: string[] = []
  for (const [name, rows] of wanted!) {
    const others = held!.get(name) ?? []
    if (others.length === 0) lines.push(`${table} lacks ${name}`)
    else if (others.length !== rows.length)
      lines.push(`${table} has ${name} ${others.length} times, not ${rows.length}`)
    else lines.push(...rows.flatMap((row, i) => columnDifferences(`${table} ${name}`, row, others[i]!, apart)))
  }
  for (const name of held!.keys()) if (!wanted!.has(name)) lines.push(`${table} has ${name}, which should not be`)
  return lines
}

function columnDifferences(what: string, expected: Row, found: Row, apart: readonly string[]): string[] {
  const columns = new Set([...Object.keys(expected), ...Object.keys(found)])
  return [...columns].flatMap((column) => {
    if (apart.includes(column)) return []
    const [wanted, held] = [expected[column], found[column]].map((value) => shown(column, value))
    return wanted === held ? [] : [`${what}: ${column} is ${held}, and should be ${wanted}`]
  })
}

function shown(column: string, value: unknown): string | undefined {
  if (!JSON_TEXT.has(column) || typeof value !== 'string') return ordered(value)
  try {
    return ordered(JSON.parse(value))
  } catch {
    return value
  }
}

/** JSON with its keys in order. */
function ordered(value: unknown): string | undefined {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === 'object' && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  )
}

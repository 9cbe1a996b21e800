/**
 * Measures the floor: the same final rows, written into the same tables with the same indexes by plain COPY. No program that stores these rows in PostgreSQL can cost less, except with fewer
 * indexes. One connection has a core for itself. Several connections, each with a part of every table's rows, show what the machine can do when all of its cores write.
 */
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
// @ts-expect-error the package has no types; it is only compared with here
import { from as copyFrom, to as copyTo } from 'pg-copy-streams'
import { SCHEMA } from '../template.ts'
import type { Bed, Costs } from './bed.ts'

export type Order = 'arrival' | 'key'

interface Table {
  name: string
  /** All columns except generated ones. */
  columns: string[]
  /** The columns of each unique index, the primary key first. */
  keys: [string[], ...string[][]]
}

interface Load {
  table: Table
  text: Buffer
}

/**
 * Copies the rows of `source` that transaction `since` or a later one wrote into `target`, a clone of `source` from before that transaction. Rows of `target` with the same primary key (counters, accounts) or with
 * the same key of another unique index (duplicates that have lost their rows since) are deleted first, which is not measured.
 */
export async function measureFloor(
  bed: Pick<Bed, 'costs'>,
  source: { url: string; since: string },
  target: { name: string; url: string },
  order: Order,
  connections = 1,
): Promise<Costs> {
  await using from = await connect(source.url)
  await using to = await connect(target.url)
  await using others = new AsyncDisposableStack()
  const writers = [to]
  while (writers.length < connections) writers.push(others.use(await connect(target.url)))
  const loads: Load[] = []
  for (const table of await tablesOf(from)) {
    const text = await dump(from, table, source.since, order)
    if (text.length > 0) loads.push({ table, text })
  }
  for (const { table, text } of loads) await clear(to, table, text)
  const shares = writers.map((_, i) => loads.map(({ table, text }) => ({ table, text: stretch(text, i, connections) })))
  return await bed.costs(target.name, async () => {
    await Promise.all(writers.map(async (client, i) => write(client, shares[i]!)))
  })
}

async function write(client: Client, loads: readonly Load[]): Promise<void> {
  await client.query('begin')
  for (const { table, text } of loads) await load(client, quoted(table.name), table.columns, text)
  await client.query('commit')
}

/** The rows of part number `part` of `parts`, one line each. */
function stretch(text: Buffer, part: number, parts: number): Buffer {
  const start = (i: number): number => (i === 0 ? 0 : text.indexOf('\n', Math.floor((text.length * i) / parts) - 1) + 1)
  return text.subarray(start(part), part + 1 === parts ? text.length : start(part + 1))
}

async function dump(client: Client, { name, columns, keys }: Table, since: string, order: Order): Promise<Buffer> {
  const by = order === 'key' ? keys[0].map(quoted).join(', ') : 'ctid'
  const stream = client.query(
    copyTo(`copy (
      select ${columns.map(quoted).join(', ')} from ${quoted(name)}
      where age(xmin) <= age('${since}'::xid8::xid) order by ${by}
    ) to stdout`),
  )
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

async function load(client: Client, table: string, columns: readonly string[], text: Buffer): Promise<void> {
  const stream = client.query(copyFrom(`copy ${table} (${columns.map(quoted).join(', ')}) from stdin`))
  await pipeline(pieces(text), stream)
}

function* pieces(text: Buffer): Generator<Buffer> {
  for (let at = 0; at < text.length; at += PIECE) yield text.subarray(at, at + PIECE)
}

const PIECE = 64 * 1024

async function clear(client: Client, { name, columns, keys }: Table, text: Buffer): Promise<void> {
  await client.query(`create temporary table incoming (like ${quoted(name)} including generated)`)
  await load(client, 'incoming', columns, text)
  for (const key of keys) {
    const same = key.map((column) => `held.${quoted(column)} = incoming.${quoted(column)}`).join(' and ')
    await client.query(`delete from ${quoted(name)} held using incoming where ${same}`)
  }
  await client.query('drop table incoming')
}

async function tablesOf(client: Client): Promise<Table[]> {
  const { rows } = await client.query<Table>({ text: TABLES, values: [SCHEMA] })
  return rows
}

const TABLES = `
  select relname as name,
    array(
      select attname::text from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped and attgenerated = ''
      order by attnum
    ) as columns,
    array(
      select json_agg(attname) from pg_index join pg_attribute a on a.attrelid = indrelid and a.attnum = any(indkey)
      where indrelid = c.oid and indisunique and indpred is null group by indexrelid, indisprimary order by indisprimary desc
    ) as keys
  from pg_class c where relnamespace = $1::regnamespace and relkind = 'r' and relname not like '%migration%'
    and exists (select from pg_index where indrelid = c.oid and indisprimary)`

async function connect(url: string): Promise<Client & AsyncDisposable> {
  const client = new Client({ connectionString: url, options: `-c search_path=${SCHEMA},public` })
  await client.connect()
  return Object.assign(client, {
    [Symbol.asyncDispose]: () => client.end(),
  })
}

function quoted(identifier: string): string {
  return `"${identifier}"`
}

/**
 * Ways to put 2,000 rows of `like` into PostgreSQL, side by side: `node packages/database/copy.bench.ts <database url>`.
 * The database is written to; give it an empty one on a server of this machine (its backend's CPU time is read from /proc).
 *
 * Each way gets fresh rows, in turn, many times over; what counts is the median CPU per row on each side.
 */
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import type { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
import type { Submittable } from 'pg'
// @ts-expect-error it has no types, and is a rival here, nothing else
import { from as copyFrom } from 'pg-copy-streams'
import type { CopyRow } from './copy-data.ts'
import { copyRows } from './copy.ts'
import { migrate } from './migrate.ts'

const url = process.argv[2]
if (url === undefined) throw new Error('usage: node packages/database/copy.bench.ts <database url>')

const ROWS = 2000
const WARM_UP = 5
const ROUNDS = 45
const COLUMNS = ['uri', 'cid', 'creator', 'subject', 'subjectCid', 'via', 'viaCid', 'createdAt', 'indexedAt']
const LIST = COLUMNS.map((name) => `"${name}"`).join(', ')

/** For the table that is being measured: the samples of each way. */
const results = new Map<string, Sample[]>()

const copyStream = copyFrom as (text: string) => Writable & Submittable

interface Sample {
  wallMs: number
  nodeUs: number
  postgresUs: number
}

type Way = (client: Client, table: string, rows: CopyRow[]) => Promise<unknown>

function ways(): Record<string, Way> {
  return {
    'copyRows (ours)': (c, table, rows) => copyRows(c, { table, columns: COLUMNS }, rows),
    'pg-copy-streams, 64 KiB': (c, table, rows) =>
      pipeline(
        Readable.from(chunks(rows), { objectMode: false }),
        c.query(copyStream(`copy "${table}" (${LIST}) from stdin`)),
      ),
    'pg-copy-streams, by row': (c, table, rows) =>
      pipeline(Readable.from(rows.map(copyLine)), c.query(copyStream(`copy "${table}" (${LIST}) from stdin`))),
    'unnest of text arrays': (c, table, rows) =>
      c.query({
        name: `unnest-${table}`,
        text: `insert into "${table}" (${LIST}) select * from unnest(${COLUMNS.map((_, i) => `$${i + 1}::text[]`).join(', ')})`,
        values: COLUMNS.map((_, i) => rows.map((row) => row[i])),
      }),
    json_to_recordset: (c, table, rows) =>
      c.query({
        name: `json-${table}`,
        text: `insert into "${table}" (${LIST}) select ${LIST} from json_to_recordset($1::json) as rows(${COLUMNS.map((name) => `"${name}" varchar`).join(', ')})`,
        values: [JSON.stringify(rows.map((row) => Object.fromEntries(COLUMNS.map((name, i) => [name, row[i]]))))],
      }),
  }
}

async function measure(table: string, client: Client, plain: Client): Promise<void> {
  results.clear()
  const names = Object.keys(ways())
  for (let round = 0; round < WARM_UP + ROUNDS; round++) {
    if (table === 'like' && round % 10 === 0) await client.query('truncate "like"')
    for (let i = 0; i < names.length; i++) {
      const name = names[(i + round) % names.length]! // each way comes after each other one
      const on = name.startsWith('pg-copy') ? plain : client
      if (table === 'staged') await on.query('truncate staged')
      const rows = likes()
      const sample = await timed(on, () => ways()[name]!(on, table, rows))
      if (round >= WARM_UP) results.set(name, [...(results.get(name) ?? []), sample])
    }
  }
  console.table(
    Object.fromEntries(
      names.map((name) => {
        const samples = results.get(name)!
        const median = (pick: (sample: Sample) => number, digits: number): number => {
          const sorted = samples.map(pick).sort((a, b) => a - b)
          return Number(sorted[sorted.length >> 1]!.toFixed(digits))
        }
        return [
          `${table}: ${name}`,
          {
            'wall ms': median((s) => s.wallMs, 1),
            'node µs/row': median((s) => s.nodeUs, 2),
            'postgres µs/row': median((s) => s.postgresUs, 2),
          },
        ]
      }),
    ),
  )
}

async function timed(on: Client, act: () => Promise<unknown>): Promise<Sample> {
  const cpu = process.cpuUsage()
  const backend = backendUs(on)
  const start = performance.now()
  await act()
  const wallMs = performance.now() - start
  const { user, system } = process.cpuUsage(cpu)
  return { wallMs, nodeUs: (user + system) / ROWS, postgresUs: (backendUs(on) - backend) / ROWS }
}

function backendUs(on: Client): number {
  const { processID } = on as unknown as { processID: number }
  return Number(readFileSync(`/proc/${processID}/schedstat`, 'utf8').split(' ')[0]) / 1000
}

async function connect(pipelined: boolean): Promise<Client> {
  const made = new Client({ connectionString: url!, pipeline: pipelined })
  await made.connect()
  await made.query(
    `set search_path to bsky, public; create temp table staged as select ${LIST} from "like" with no data`,
  )
  return made
}

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
function letters(count: number): string {
  let text = ''
  for (let i = 0; i < count; i++) text += ALPHABET[(Math.random() * 32) | 0]
  return Buffer.from(text).toString() // flat, as parsed text is
}

function likes(): CopyRow[] {
  const at = new Date().toISOString()
  return Array.from({ length: ROWS }, () => {
    const did = `did:plc:${letters(24)}`
    const subject = `at://did:plc:${letters(24)}/app.bsky.feed.post/${letters(13)}`
    return [`at://${did}/app.bsky.feed.like/${letters(13)}`, letters(59), did, subject, letters(59), null, null, at, at]
  })
}

function* chunks(rows: CopyRow[]): Generator<Buffer> {
  let text = ''
  for (const row of rows) {
    text += copyLine(row)
    if (text.length < 65_536) continue
    yield Buffer.from(text)
    text = ''
  }
  yield Buffer.from(text)
}

/** A line of COPY's text format. */
function copyLine(row: CopyRow): string {
  return row.map((value) => (value === null ? '\\N' : String(value).replace(/[\\\t\n\r]/g, escaped))).join('\t') + '\n'
}

function escaped(char: string): string {
  return { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }[char]!
}

await migrate(url, 'bsky')
const client = await connect(true)
const plain = await connect(false)
for (const table of ['staged', 'like']) await measure(table, client, plain)
await client.end()
await plain.end()

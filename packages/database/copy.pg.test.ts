import * as fc from 'fast-check'
import { Client } from 'pg'
import { expect, test as base } from '@sluice/sandbox/fixtures.ts'
import { copyRows } from './copy.ts'
import { jsonb, type CopyRow } from './copy-data.ts'

const TARGET = { table: 'odd "name"', columns: ['id', 'Text', 'json', 'flag', 'small'] }

const test = base.extend('client', async ({ emptyDatabase }, { onCleanup }) => {
  const client = new Client({ connectionString: emptyDatabase, pipeline: true })
  client.on('error', () => {})
  onCleanup(() => client.end())
  await client.connect()
  await client.query(
    'create table "odd ""name""" (id integer, "Text" varchar, json jsonb, flag boolean, small integer)',
  )
  return client
})

async function count(client: Client): Promise<number> {
  const { rows } = await client.query<{ n: number }>('select count(*)::int as n from "odd ""name"""')
  return rows[0]!.n
}

function row(id: number, text: string | null = 'text'): CopyRow {
  return [id, text, jsonb('{"a":[1,"\\n"]}'), true, null]
}

test('any text, null and the empty string come back as they went in', async ({ client }) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 40 }).filter((s) => !s.includes('\0')),
    fc.string({
      unit: fc.constantFrom('\\', '\t', '\n', '\r', 'N', '.', '"', ',', '\u{1f600}', '\u0001', '\x7f', 'é'),
      maxLength: 20,
    }),
  )
  const rows = fc.array(
    fc.record({
      text: fc.option(text),
      json: fc.option(fc.jsonValue({ maxDepth: 3 }).filter((value) => !JSON.stringify(value).includes('\\u0000'))),
      flag: fc.option(fc.boolean()),
      small: fc.option(fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 })),
    }),
    { maxLength: 30 },
  )
  await fc.assert(
    fc.asyncProperty(rows, async (given) => {
      await client.query('truncate "odd ""name"""')
      const copied = await copyRows(
        client,
        TARGET,
        given.map(({ text, json, flag, small }, id) => [
          id,
          text,
          json === null ? null : jsonb(JSON.stringify(json)),
          flag,
          small,
        ]),
      )
      const { rows } = await client.query('select "Text" as text, json, flag, small from "odd ""name""" order by id')
      expect(copied).toBe(given.length)
      expect(rows).toEqual(
        given.map(({ json, ...same }) => ({
          ...same,
          json: json === null ? null : (JSON.parse(JSON.stringify(json)) as unknown),
        })),
      )
    }),
    { numRuns: 200 },
  )
})

test('the event loop turns while rows are sent', async ({ client }) => {
  let turns = 0
  const timer = setInterval(() => turns++, 1)
  await copyRows(
    client,
    TARGET,
    Array.from({ length: 100_000 }, (_, id) => row(id, 'x'.repeat(100))),
  )
  clearInterval(timer)
  expect(turns).toBeGreaterThan(10)
})

test('a hundred megabytes pass through a small buffer, from rows that are made while they are sent', async ({
  client,
}) => {
  const kilobyte = 'x'.repeat(1024)
  let made = 0
  let mostQueued = 0
  function* rows(): Generator<CopyRow> {
    for (; made < 100_000; made++) {
      yield row(made, kilobyte)
      mostQueued = Math.max(mostQueued, client.connection.stream.writableLength)
    }
  }
  expect(await copyRows(client, TARGET, rows())).toBe(100_000)
  expect(mostQueued).toBeGreaterThan(0)
  expect(mostQueued).toBeLessThan(1024 * 1024)
  expect(await count(client)).toBe(100_000)
})

test('a row that is larger than the buffer arrives whole', async ({ client }) => {
  const sizes = [10, 65_535, 65_536, 300_000, 5_000_000, 10]
  const texts = sizes.map((size) => '\u20ac\t'.repeat(size / 2))
  await copyRows(client, TARGET, texts.map((text, id) => row(id, text))) // prettier-ignore
  const { rows } = await client.query<{ text: string }>('select "Text" as text from "odd ""name""" order by id')
  expect(rows.map(({ text }, i) => text === texts[i])).toEqual(sizes.map(() => true))
})

test('text of which every character takes three bytes arrives whole', async ({ client }) => {
  const text = '東'.repeat(100_000)
  expect(await copyRows(client, TARGET, [row(1, text), row(2)])).toBe(2)
  const { rows } = await client.query<{ Text: string }>('select "Text" from "odd ""name""" order by id')
  expect(rows.map((one) => one.Text === text)).toEqual([true, false])
})

test('no rows is no error', async ({ client }) => {
  expect(await copyRows(client, TARGET, [])).toBe(0)
})

test('statements called behind a small COPY are answered in order, without waiting for it', async ({ client }) => {
  const [copied, after] = await Promise.all([copyRows(client, TARGET, [row(1), row(2)]), count(client)])
  expect([copied, after]).toEqual([2, 2])
})

const FAULTS: [name: string, code: string, target: typeof TARGET, bad: CopyRow][] = [
  ['the table does not exist', '42P01', { ...TARGET, table: 'nowhere' }, row(0)],
  ['a text goes into a column of integers', '22P03', TARGET, ['no number', null, null, null, null]],
  ['a text goes into a column of booleans', '22P03', TARGET, [0, null, null, 'true', null]],
  ['a text holds a NUL', '22021', TARGET, row(0, 'a\0b')],
  ['a JSON text is broken', '22P02', TARGET, [0, null, jsonb('{'), null, null]],
  ['a JSON text holds \\u0000', '22P05', TARGET, [0, null, jsonb('"\\u0000"'), null, null]],
  ['a row is short of values', '22P04', TARGET, [0, null]],
]
for (const [name, code, target, bad] of FAULTS) {
  test(`when ${name}, the promise is rejected, nothing is kept and the connection goes on`, async ({ client }) => {
    for (const before of [0, 1, 50_000]) {
      let taken = 0
      function* rows(): Generator<CopyRow> {
        for (; taken < before; taken++) yield row(taken)
        yield bad
        for (; taken < 100_000; taken++) yield row(taken)
      }
      await expect(copyRows(client, target, rows())).rejects.toMatchObject({ code })
      expect(await count(client)).toBe(0)
      expect(await copyRows(client, TARGET, [row(1)])).toBe(1)
      await client.query('truncate "odd ""name"""')
    }
  })
}

test('a server that has refused a COPY is sent no more of it', async ({ client }) => {
  let taken = 0
  function* rows(): Generator<CopyRow> {
    for (; taken < 1_000_000; taken++) yield row(taken, 'x'.repeat(100))
  }
  await expect(copyRows(client, { ...TARGET, table: 'nowhere' }, rows())).rejects.toMatchObject({ code: '42P01' })
  expect(taken).toBeLessThan(1_000_000)
})

test('an error of the row source is the caller’s error, and takes back the rows before it', async ({ client }) => {
  for (const before of [0, 1, 50_000]) {
    const mine = new Error('the source broke')
    function* rows(): Generator<CopyRow> {
      for (let id = 0; id < before; id++) yield row(id)
      throw mine
    }
    await expect(copyRows(client, TARGET, rows())).rejects.toBe(mine)
    expect(await count(client)).toBe(0)
  }
})

test('that the last byte is sent is told before the answer, and when the row source breaks', async ({ client }) => {
  const said: string[] = []
  const tell = (what: string) => () => void said.push(what)
  await copyRows(client, TARGET, [row(1)], tell('sent')).then(tell('answered'))
  function* broken(): Generator<CopyRow> {
    yield row(2)
    throw new Error('the source broke')
  }
  await copyRows(client, TARGET, broken(), tell('sent')).catch(tell('failed'))
  expect(said).toEqual(['sent', 'answered', 'sent', 'failed'])
})

test('a connection that breaks amid a COPY rejects it', async ({ client, emptyDatabase }) => {
  const { rows: pids } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  const other = new Client(emptyDatabase)
  await other.connect()
  let terminated: Promise<unknown> | undefined
  function* rows(): Generator<CopyRow> {
    for (let id = 0; id < 1_000_000; id++) {
      if (id === 10_000) terminated = other.query('select pg_terminate_backend($1)', [pids[0]!.pid])
      yield row(id)
    }
  }
  await expect(copyRows(client, TARGET, rows())).rejects.toThrow(/terminat|ECONNRESET|EPIPE/)
  expect(terminated).toBeDefined()
  await terminated
  await other.end()
})

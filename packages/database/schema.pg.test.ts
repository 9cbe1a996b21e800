import { readFileSync } from 'node:fs'
import { Client } from 'pg'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import { readCatalog } from './catalog.ts'
import type { Catalog } from './catalog.ts'

const SOURCES = ['./schema.ts', './own-tables.ts']

/** The interfaces of schema.ts as its text has them: types leave no trace at run time. */
function declared(source: string): { tables: Map<string, string>; columns: Map<string, Map<string, string>> } {
  const interfaces = new Map<string, { parents: string[]; fields: Map<string, string> }>()
  for (const [, name, parents, body] of source.matchAll(/interface (\w+)(?: extends ([\w, ]+))? \{([^}]*)\}/g)) {
    const fields = [...body!.matchAll(/^ {2}(\w+): (.+)$/gm)].map(([, field, type]) => [field!, type!] as const)
    interfaces.set(name!, { parents: parents?.split(', ') ?? [], fields: new Map(fields) })
  }
  const columnsOf = (name: string): [string, string][] => {
    const { parents, fields } = interfaces.get(name)!
    return [...parents.flatMap(columnsOf), ...fields]
  }
  const tables = interfaces.get('Schema')!.fields
  return { tables, columns: new Map([...tables].map(([table, name]) => [table, new Map(columnsOf(name))])) }
}

/** Of a value's shape the database knows only that it is JSON, or text. */
function plain(type: string): string {
  return type.startsWith('Json<') ? 'Json' : /^'\w+'( \| '\w+')*$/.test(type) ? 'string' : type
}

/** What a column of the catalog looks like in TypeScript. */
function typeOf(definition: string): string {
  const [, type, isNull, rest] = /^(.*?) (null|not null)(.*)$/.exec(definition)!
  const base = {
    'character varying': 'string',
    'character varying[]': 'string[]',
    text: 'string',
    boolean: 'boolean',
    bigint: 'number',
    jsonb: 'Json',
  }[type!]
  if (base === undefined) return `(unknown type ${type})`
  if (rest!.includes('generated')) return `GeneratedAlways<${base}>`
  if (rest!.includes('default')) return `Generated<${base}>`
  return type === 'jsonb' || isNull === 'not null' ? base : `${base} | null`
}

test('the types of the tables are those of the database, column by column', async ({ database }) => {
  const client = new Client(database)
  await client.connect()
  await client.query('begin')
  const catalog: Catalog = await readCatalog(client, 'bsky')
  await client.end()
  const { tables, columns } = declared(
    SOURCES.map((file) => readFileSync(new URL(file, import.meta.url), 'utf8')).join('\n'),
  )
  expect(tables.size).toBe(42)
  for (const [table, fields] of columns) {
    const actual = [...catalog]
      .filter(([name]) => name.startsWith(`column ${table}.`))
      .map(([name, definition]) => [name.slice(`column ${table}.`.length), typeOf(definition)])
    const given = [...fields].map(([field, type]) => [field, plain(type)])
    expect([table, Object.fromEntries(given)]).toEqual([table, Object.fromEntries(actual)])
  }
})

import { Client } from 'pg'
import { expect, inject } from 'vitest'
import { test } from '@sluice/sandbox/fixtures.ts'
import { textOrder } from './collation.ts'
import { DatabasePool } from './pool.ts'

function poolOf(url: string): DatabasePool {
  return new DatabasePool({ url, schema: 'bsky', size: 1, role: 'test' })
}

/** Texts that the orders of languages and of bytes put differently. */
const TELLTALE = ['a', 'B', 'a-b', 'ab', 'a_b', 'a.b', 'é', 'z', '3k', '~', '\u{1f600}', '\uffee']

async function sortsByBytes(pool: DatabasePool): Promise<boolean> {
  const { rows } = await pool.query<{ text: string }>('select unnest($1::text[]) as text order by 1', [TELLTALE])
  const bytes = [...TELLTALE].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)))
  return rows.every(({ text }, i) => text === bytes[i])
}

const DATABASES: [how: string, options: string][] = [
  ['builtin C.UTF-8', `locale_provider builtin builtin_locale 'C.UTF-8'`],
  ['builtin C', `locale_provider builtin builtin_locale 'C'`],
  ['libc C', `locale_provider libc locale 'C'`],
  ['libc C.UTF-8', `locale_provider libc locale 'C.UTF-8'`],
  ['libc POSIX', `locale_provider libc locale 'POSIX'`],
  ['ICU en-US', `locale_provider icu icu_locale 'en-US' locale 'C'`],
  ['ICU root', `locale_provider icu icu_locale 'und' locale 'C'`],
]

for (const [i, [how, options]] of DATABASES.entries()) {
  test(`${how}: the answer is what sorting shows`, async () => {
    const admin = inject('postgresUrl')
    const name = `collation_${process.pid}_${i}`
    const client = new Client(admin)
    await client.connect()
    await client.query(`create database ${name} template template0 encoding 'UTF8' ${options}`)
    try {
      await using pool = poolOf(admin.replace(/\/postgres$/, `/${name}`))
      const order = await textOrder(pool, 'bsky')
      expect(order.bytewise).toBe(await sortsByBytes(pool))
      expect(order.bytewise).toBe(!how.startsWith('ICU'))
      if (!order.bytewise) expect(order.advice).toMatch(new RegExp(`"${name}".*createdb .*C.UTF-8`))
    } finally {
      await client.query(`drop database ${name} with (force)`)
      await client.end()
    }
  })
}

test('a column with an order of its own is found, and named', async ({ database }) => {
  await using pool = poolOf(database)
  expect(await textOrder(pool, 'bsky')).toEqual({ bytewise: true, collation: 'C.UTF-8 (builtin)' })
  await pool.query('alter table record alter column uri type varchar collate "en-x-icu"')
  const order = await textOrder(pool, 'bsky')
  expect(order).toMatchObject({ bytewise: false, collation: 'C.UTF-8 (builtin), en (ICU)' })
  expect(order.bytewise || order.advice).toContain('record.uri')
})

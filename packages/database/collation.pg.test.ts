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

const MAJOR = inject('postgresMajor')
/** Before 15 there was only libc, of which nothing could be said. */
const LIBC = MAJOR >= 15 ? 'locale_provider libc' : ''

const DATABASES: [how: string, options: string, since?: number][] = [
  ['builtin C.UTF-8', `locale_provider builtin builtin_locale 'C.UTF-8'`, 17],
  ['builtin C', `locale_provider builtin builtin_locale 'C'`, 17],
  ['libc C', `${LIBC} locale 'C'`],
  ['libc C.UTF-8', `${LIBC} locale 'C.UTF-8'`],
  ['libc POSIX', `${LIBC} locale 'POSIX'`],
  ['ICU en-US', `locale_provider icu icu_locale 'en-US' locale 'C'`, 15],
  ['ICU root', `locale_provider icu icu_locale 'und' locale 'C'`, 15],
]

for (const [i, [how, options, since = 0]] of DATABASES.entries()) {
  test.runIf(MAJOR >= since)(`${how}: the answer is what sorting shows`, async () => {
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
  const own = `C.UTF-8 (${MAJOR >= 17 ? 'builtin' : 'libc'})`
  expect(await textOrder(pool, 'bsky')).toEqual({ bytewise: true, collation: own })
  await pool.query('alter table record alter column uri type varchar collate "en-x-icu"')
  const order = await textOrder(pool, 'bsky')
  expect(order).toMatchObject({ bytewise: false, collation: `${own}, en (ICU)` })
  expect(order.bytewise || order.advice).toContain('record.uri')
})

/** The page says what the list says, and every entry of the list says something. */
import { readFile } from 'node:fs/promises'
import { format, resolveConfig } from 'prettier'
import { expect, test } from 'vitest'
import { allowances } from './allowed.ts'
import { differencesPage } from './differences-page.ts'

const PAGE = new URL('../../../docs/differences.md', import.meta.url).pathname

test('docs/differences.md is the list that the comparison uses', async () => {
  const options = { ...(await resolveConfig(PAGE)), parser: 'markdown' }
  expect(await readFile(PAGE, 'utf8')).toBe(await format(differencesPage(), options))
})

test('each allowed difference has a name of its own, tables, and both sides', () => {
  expect(new Set(allowances.map(({ id }) => id)).size).toBe(allowances.length)
  const page = differencesPage()
  for (const { tables, theirs, ours } of allowances) {
    expect(tables.length).toBeGreaterThan(0)
    expect(page).toContain(theirs)
    expect(page).toContain(ours)
  }
})

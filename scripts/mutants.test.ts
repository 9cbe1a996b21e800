/** The list of mutants follows the code: `npm run mutants` runs them, this only sees that it could. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseSync } from 'oxc-parser'
import { expect, test } from 'vitest'
import { MUTANTS } from './mutants/list.ts'
import { mutate, occurrences, projectOf } from './mutants/mutant.ts'

const root = join(import.meta.dirname, '..')
const textOf = (file: string): string => readFileSync(join(root, file), 'utf8')

test('there are at least 25, each with a name of its own, over every part of the data path', () => {
  expect(MUTANTS.length).toBeGreaterThanOrEqual(25)
  expect(new Set(MUTANTS.map(({ name }) => name)).size).toBe(MUTANTS.length)
  const rooms = [
    'packages/indexing',
    'packages/collections',
    'packages/streams',
    'packages/atproto',
    'services/ingester',
    'services/backfiller',
  ]
  for (const room of rooms) {
    expect(MUTANTS.filter(({ file }) => file.startsWith(`${room}/`)).length, room).toBeGreaterThanOrEqual(5)
  }
})

test.each(MUTANTS.map((mutant) => [mutant.name, mutant] as const))(
  '%s: its text occurs once, and the fault can be compiled',
  (_, mutant) => {
    expect(occurrences(textOf(mutant.file), mutant.find)).toBe(1)
    const text = mutate(textOf(mutant.file), mutant)
    expect(text).not.toBe(textOf(mutant.file))
    if (mutant.file.endsWith('.ts')) expect(parseSync(mutant.file, text).errors).toEqual([])
  },
)

test('every killer is a test file, with a test of that name', () => {
  for (const { killedBy } of MUTANTS) {
    expect(existsSync(join(root, killedBy.file)), killedBy.file).toBe(true)
    if (killedBy.test !== undefined) expect(textOf(killedBy.file), killedBy.file).toContain(killedBy.test)
  }
})

test('a mutant whose text is gone, or is there twice, is an error', () => {
  const mutant = { ...MUTANTS[0]!, find: 'x', replace: '$&y' }
  expect(mutate('axb', mutant)).toBe('a$&yb')
  expect(() => mutate('ab', mutant)).toThrow('occurs 0 times')
  expect(() => mutate('axbx', mutant)).toThrow('occurs 2 times')
})

test('a test file belongs to the project of its suffix', () => {
  expect(['a/b.test.ts', 'a/b.pg.test.ts', 'a/b.redis.test.ts', 'b.e2e.test.ts'].map(projectOf)).toEqual([
    'unit',
    'pg',
    'redis',
    'e2e',
  ])
})

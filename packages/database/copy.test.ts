import { expect, test } from 'vitest'
import { copyLine } from './copy.ts'

test('null, the empty string and the text "\\N" are three different things', () => {
  expect(copyLine([null, '', '\\N'])).toBe('\\N\t\t\\\\N\n')
})

test('what ends a value or a row is escaped, wherever it stands', () => {
  expect(copyLine(['a\tb', '\n', 'c\r\nd', '\\', '\\.'])).toBe('a\\tb\t\\n\tc\\r\\nd\t\\\\\t\\\\.\n')
})

test('values that are not text are written as PostgreSQL reads them', () => {
  expect(copyLine([true, false, 0, -1.5, 9007199254740993n])).toBe('true\tfalse\t0\t-1.5\t9007199254740993\n')
})

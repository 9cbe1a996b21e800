import { expect, test } from 'vitest'
import { refusalOf } from './server-version.ts'

test('a PostgreSQL before 14 is refused by its version, all from then on are taken', () => {
  expect(refusalOf({ version: '13.23 (Debian 13.23-1)', number: 130_023 })).toMatch(
    /^PostgreSQL 13\.23 \(Debian 13\.23-1\) is too old: Sluice needs 14 or newer\. Next: /,
  )
  expect(refusalOf({ version: '14.0', number: 140_000 })).toBeUndefined()
  expect(refusalOf({ version: '19beta1', number: 190_000 })).toBeUndefined()
})

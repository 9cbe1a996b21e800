import { expect, test } from 'vitest'
import { buildId } from './build-id.ts'

test('the build is what the image says, else the version', () => {
  expect(buildId({ SLUICE_BUILD_ID: ' 3f2a ' })).toBe('3f2a')
  expect(buildId({ SLUICE_BUILD_ID: '' })).toMatch(/^v\d+\.\d+\.\d+/)
  expect(buildId({})).toMatch(/^v\d+\.\d+\.\d+/)
})

import { spawn } from 'node:child_process'
import { beforeAll } from 'vitest'
import { expect, test } from '@sluice/sandbox/fixtures.ts'

beforeAll(() => {
  spawn('sleep', ['301'])
})

test('leaves nothing itself', () => {
  expect(1).toBe(1)
})

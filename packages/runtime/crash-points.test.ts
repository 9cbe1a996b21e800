import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { CRASH_POINTS, parseCrashPoints } from './crash-points.ts'
import { FatalError } from './errors.ts'

/** Passes `append.before`, `commit.after` three times each in a process of its own. */
function passing(armed?: string) {
  const script = `
    const { crashPoint } = await import(${JSON.stringify(new URL('crash-points.ts', import.meta.url).href)})
    for (let i = 1; i <= 3; i++) {
      console.log('append ' + i)
      crashPoint('append.before')
      console.log('commit ' + i)
      crashPoint('commit.after')
    }`
  const env = { PATH: process.env.PATH, ...(armed === undefined ? {} : { SLUICE_CRASH_POINTS: armed }) }
  const { signal, status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env })
  return { signal, status, passes: stdout.toString().trim().split('\n').length, stderr: stderr.toString() }
}

test('unarmed points do nothing', () => {
  for (const armed of [undefined, '', 'chunk.between']) {
    expect(passing(armed)).toEqual({ signal: null, status: 0, passes: 6, stderr: '' })
  }
})

test('an armed point kills at its first pass, and says so', () => {
  expect(passing('commit.after')).toEqual({
    signal: 'SIGKILL',
    status: null,
    passes: 2,
    stderr: 'crash point commit.after\n',
  })
})

test('@n kills at the nth pass, whichever point comes first', () => {
  expect(passing('append.before@3')).toMatchObject({ signal: 'SIGKILL', passes: 5 })
  expect(passing('append.before@3, commit.after@2')).toMatchObject({ passes: 4, stderr: 'crash point commit.after\n' })
  expect(passing('append.before@4')).toMatchObject({ signal: null, passes: 6 })
})

test('a point that does not exist stops the process: a fault test that injects nothing must not pass', () => {
  expect(passing('append.befor')).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('there is no append.befor') as string,
  })
  expect(() => parseCrashPoints('append.before@0')).toThrow(FatalError)
  expect(() => parseCrashPoints('append.before@x')).toThrow(FatalError)
  expect([...parseCrashPoints(CRASH_POINTS.join(','))]).toEqual(CRASH_POINTS.map((point) => [point, 1]))
})

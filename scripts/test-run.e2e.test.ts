import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { sharedEnvironment } from '@sluice/sandbox/children.ts'
import { expect, test } from '@sluice/sandbox/fixtures.ts'
import type { ProjectSummary, TestRun } from './test-run.ts'

test('what a test or a file leaves behind is a failure that says what, and every failure is counted once', async () => {
  const { run, output } = await runLeaks()
  expect(run).toMatchObject({ passed: 2, failed: 3, skipped: ['test.leak.ts > is skipped'] })
  expect(run.outside.length).toBe(1)
  expect(run.outside[0]).toMatch(/^file\.leak\.ts: Error: the file left processes running:\n\d+ sleep 301\n/)
  expect(run.projects).toMatchObject([{ passed: 2, failed: 3, skipped: 1 }])
  expect(output).toContain('the test left connections to PostgreSQL open:\nleaky idle')
  expect(output).toMatch(/the test left connections to Redis open:\n.*\bdb=\d+ /)
  expect(output).toMatch(/the test left processes running:\n\d+ sleep 300\n/)
})

type Outcome = Pick<TestRun, 'passed' | 'failed' | 'skipped' | 'outside'> & { projects: ProjectSummary[] }

/** In a process of its own, as `npm test` is one. */
function runLeaks(): Promise<{ run: Outcome; output: string }> {
  const leaks = join(import.meta.dirname, '../packages/sandbox/leaks')
  const program = `
    import { describeModules, runTests } from ${JSON.stringify(join(import.meta.dirname, 'test-run.ts'))}
    const { modules, ...run } = await runTests(${JSON.stringify(leaks)}, ['--config', ${JSON.stringify(join(leaks, 'vitest.config.ts'))}])
    console.log('\\n' + JSON.stringify({ ...run, projects: describeModules(modules) }))`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: join(import.meta.dirname, '..'),
    env: { ...sharedEnvironment(), NO_COLOR: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => void (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => void (output += chunk.toString()))
  return new Promise((resolve, reject) => {
    child.on('close', () => {
      const line = output.split('\n').findLast((candidate) => candidate.startsWith('{'))
      if (line) resolve({ run: JSON.parse(line) as Outcome, output })
      else reject(new Error(output))
    })
  })
}

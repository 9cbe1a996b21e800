/** The programs that write files or take long say with `--help` how they are used, and then do nothing else. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { root } from './roles.ts'

/** As npm runs it, without the installation. */
function run(program: string, ...args: string[]) {
  return spawnSync(process.execPath, [program, ...args], { cwd: root, encoding: 'utf8', timeout: 30_000 })
}

const PROGRAMS = [
  ['npm run docs', ['scripts/generate-docs.ts']],
  ['npm run format', ['scripts/format.ts']],
  ['npm test', ['scripts/test.ts']],
  ['npm run check', ['scripts/test.ts', '--checks-only']],
  ['node scripts/check-house.ts', ['scripts/check-house.ts']],
  ['node packages/indexing/oracle/write-differences.ts', ['packages/indexing/oracle/write-differences.ts']],
] as const

test.each(PROGRAMS)('%s -- --help prints its usage, and nothing else', (name, [program, ...args]) => {
  const { status, stdout, stderr } = run(program, ...args, '--help')
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  expect(stdout).toMatch(/^usage: .*\n$/)
  expect(stdout).toContain(name)
})

test.each(PROGRAMS.filter(([name]) => !/^npm (test|run check)$/.test(name)))(
  '%s refuses an option that there is not, and does nothing',
  (_, [program]) => {
    const { status, stdout, stderr } = run(program, '--hlep')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^Unknown option '--hlep'\nusage: /)
  },
)

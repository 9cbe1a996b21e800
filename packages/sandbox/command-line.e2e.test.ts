import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'

const ROOT = join(import.meta.dirname, '../..')

/** As npm runs it, without the installation. */
function run(program: string, ...args: string[]) {
  return spawnSync(process.execPath, [program, ...args], { cwd: ROOT, encoding: 'utf8', timeout: 60_000 })
}

describe.each([
  ['demo', 'packages/sandbox/demo.ts'],
  ['start', 'packages/sandbox/start.ts'],
  ['simulate', 'packages/simulator/simulate.ts'],
  ['bench', 'packages/sandbox/bench.ts'],
])('npm run %s', (name, program) => {
  test('says with --help what there is, each option of it', () => {
    const { status, stdout, stderr } = run(program, '--help')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(new RegExp(`^usage: npm (run )?${name} `))
    const source = readFileSync(join(ROOT, program), 'utf8')
    const options = [...source.matchAll(/^ {2,4}'?([a-z-]+)'?: \{ type: '/gm)].map(([, option]) => option!)
    expect(options.length).toBeGreaterThan(0)
    for (const option of options.filter((one) => one !== 'child')) expect(stdout).toContain(`--${option}`)
  })

  test('tells in a line which option there is not, and its usage', () => {
    const { status, stdout, stderr } = run(program, '--sede', '1')
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(/^Unknown option '--sede'\nusage: npm /)
    expect(stderr).not.toContain('    at ')
  })
})

test('an option without its value, and what belongs to none (a -- was forgotten), are told the same way', () => {
  const lines = [['--dir'], ['1']].map((args) => run('packages/sandbox/start.ts', ...args).stderr.split('\n')[0])
  expect(lines).toEqual(["Option '--dir <value>' argument missing", "Unexpected argument '1'"])
})

test.each([
  ['demo', 'packages/sandbox/demo.ts', '--seed', 'abc', 'a whole number'],
  ['demo', 'packages/sandbox/demo.ts', '--people', '0', 'a whole number of at least 1'],
  ['simulate', 'packages/simulator/simulate.ts', '--seed', 'abc', 'a whole number'],
  ['simulate', 'packages/simulator/simulate.ts', '--seeds', '5-3', 'seeds such as 7, 1-200 or 3,5,9'],
  ['simulate', 'packages/simulator/simulate.ts', '--parallel', '0', 'a whole number of at least 1'],
  ['simulate', 'packages/simulator/simulate.ts', '--minutes', 'an hour', 'a number above 0'],
  ['bench', 'packages/sandbox/bench.ts', '--seed', '', 'a whole number'],
  ['bench', 'packages/sandbox/bench.ts', '--sizes', '0,1e', 'whole numbers, separated by commas'],
])('npm run %s (%s) does not start with %s %j, and says what it wants', (_, program, option, value, wanted) => {
  const { status, stdout, stderr } = run(program, option, value)
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr.split('\n')[0]).toBe(`${option} is ${wanted}, not '${value}'`)
  expect(stderr).toContain('\nusage: npm run ')
  expect(stderr).not.toContain('    at ')
})

test('a bench of a part that there is not measures nothing', () => {
  const { status, stdout, stderr } = run('packages/sandbox/bench.ts', '--parts', 'index')
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
  expect(stderr).toMatch(
    "--parts is some of indexer, bulk, latency, streams, ingester, backfiller, growth, not 'index'\nusage: npm run bench ",
  )
})

describe('npm run mutants', () => {
  test('says with --help what may be named', () => {
    const { status, stdout, stderr } = run('scripts/mutants.ts', '--help')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^usage: npm run mutants /)
  })

  test.each([
    ['--seed', "Unknown option '--seed'"],
    ['packages/indexnig', "no mutant has 'packages/indexnig' in its name or its file"],
  ])('runs nothing for %s, and says why', (arg, told) => {
    const { status, stdout, stderr } = run('scripts/mutants.ts', 'lease', arg)
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' })
    expect(stderr).toMatch(`${told}\nusage: npm run mutants `)
    expect(stderr).not.toContain('    at ')
  })
})

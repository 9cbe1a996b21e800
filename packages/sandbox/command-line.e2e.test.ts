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
    const options = [...source.matchAll(/^ {2}'?([a-z-]+)'?: \{ type: '/gm)].map(([, option]) => option!)
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

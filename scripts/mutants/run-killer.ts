/** Runs the tests that should notice a mutant, and says what they said. */
import { spawn } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { projectOf, type Killer } from './mutant.ts'

export interface KillerRun {
  passed: number
  /** The names of the tests that failed. */
  failed: string[]
  timedOut: boolean
  /** The end of what was printed. */
  output: string
}

/** Longer than any killer takes without a fault: a mutant that hangs is noticed. */
const TIMEOUT_MS = 240_000
const GRACE_MS = 15_000
const OUTPUT_CHARS = 2_000

export async function runKiller(root: string, { file, test }: Killer): Promise<KillerRun> {
  const report = join(root, 'mutant-report.json')
  rmSync(report, { force: true })
  const filter = test === undefined ? [] : ['-t', test]
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', projectOf(file), file, ...filter]
  const reporters = ['--reporter=json', `--outputFile=${report}`]
  // What is compiled here is of no use to anybody later, and is removed with the tree.
  const cache = { NODE_COMPILE_CACHE: join(root, 'compile-cache') }
  // SEED is fixed, so that a mutant does not live or die by luck.
  const env = { ...process.env, ...cache, SEED: '1', NODE_NO_WARNINGS: '1' }
  const child = spawn(process.execPath, [...args, ...reporters], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const collect = (chunk: Buffer): void => void (output = (output + chunk.toString()).slice(-OUTPUT_CHARS))
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  let timedOut = false
  const kill = setTimeout(() => {
    timedOut = true
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), GRACE_MS).unref()
  }, TIMEOUT_MS)
  await new Promise((resolve, reject) => child.on('error', reject).on('close', resolve))
  clearTimeout(kill)
  return { ...readReport(report), timedOut, output }
}

interface Report {
  testResults: { assertionResults: { status: string; fullName: string }[] }[]
}

function readReport(path: string): { passed: number; failed: string[] } {
  let report: Report
  try {
    report = JSON.parse(readFileSync(path, 'utf8')) as Report
  } catch {
    return { passed: 0, failed: [] }
  }
  const tests = report.testResults.flatMap(({ assertionResults }) => assertionResults)
  const named = (status: string): string[] => tests.filter((t) => t.status === status).map(({ fullName }) => fullName)
  return { passed: named('passed').length, failed: named('failed') }
}

/**
 * `npm test [-- vitest arguments]`: every check, then every test; `--checks-only` (`npm run check`) leaves the tests
 * out.
 *
 * Ends with the line `N passed, N failed`: each check counts as one, each test as one, and so does each error outside a
 * test (a file that does not load, a failing `afterAll`, an unhandled rejection, a process left behind). Exits 1 when
 * anything failed.
 */
import { join } from 'node:path'
import { noProcessLeft } from '@sluice/sandbox/leftovers.ts'
import { type Check, runCheck } from './checks.ts'
import { describeModules, runTests, type TestRun } from './test-run.ts'

const USAGE = 'usage: npm test [-- <arguments of vitest>], or without any test: npm run check'

const root = join(import.meta.dirname, '..')
const args = process.argv.slice(2)
if (args.includes('--help')) {
  console.log(USAGE)
  process.exit(0)
}
const checksOnly = args.includes('--checks-only')

const tool = (path: string): string => join(root, 'node_modules', path)
const checks: Check[] = [
  { name: 'format', args: [tool('prettier/bin/prettier.cjs'), '--check', '.'], remedy: 'npm run format' },
  { name: 'lint', args: [tool('oxlint/bin/oxlint'), '--type-aware', '.'] },
  { name: 'types', args: [tool('typescript/bin/tsc'), '-p', '.'] },
  { name: 'house', args: [join(root, 'scripts/check-house.ts')] },
  { name: 'docs', args: [join(root, 'scripts/generate-docs.ts'), '--check'], remedy: 'npm run docs' },
]

const allEnded = noProcessLeft('the run')
const results = await Promise.all(checks.map((check) => runCheck(root, check)))
for (const { check, ok, output } of results) {
  if (!ok) console.log(`\n── ${check.name} ──\n${output}${check.remedy ? `\nmended by: ${check.remedy}` : ''}`)
}

const run: TestRun | undefined = checksOnly
  ? undefined
  : await runTests(
      root,
      args.filter((arg) => arg !== '--'),
    )
const outside = run?.outside ?? []
await allEnded().catch((error: Error) => outside.push(error.message))

console.log('')
for (const { check, ok, seconds } of results) row(check.name, ok ? 'ok' : 'FAILED', seconds)
for (const { project, passed, failed, skipped, seconds } of describeModules(run?.modules ?? [])) {
  const parts = [`${passed} passed`, failed > 0 && `${failed} FAILED`, skipped > 0 && `${skipped} skipped`].filter(
    Boolean,
  )
  row(project, parts.join(', '), seconds)
}
for (const name of run?.skipped ?? []) console.log(`notice: skipped: ${name}`)
for (const name of run?.retried ?? []) console.log(`notice: passed at the second try only: ${name}`)
for (const error of outside) console.log(`error outside a test: ${error.split('\n').slice(0, 5).join('\n  ')}`)

const passed = results.filter(({ ok }) => ok).length + (run?.passed ?? 0)
const failed = results.filter(({ ok }) => !ok).length + (run?.failed ?? 0) + outside.length
console.log(`\n${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0

function row(name: string, result: string, seconds: number): void {
  console.log(`${name.padEnd(8)} ${result.padEnd(40)} ${seconds.toFixed(1).padStart(6)} s`)
}

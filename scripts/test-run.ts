/** Runs Vitest in this process and tells what happened, errors outside of tests included. */
import { relative } from 'node:path'
import { parseCLI, type Reporter, startVitest, type TestModule } from 'vitest/node'

export interface TestRun {
  modules: readonly TestModule[]
  passed: number
  failed: number
  /** Full names of the tests that did not run. */
  skipped: string[]
  /** Full names of the tests that passed at the second try only. */
  retried: string[]
  /** Errors that belong to no test. */
  outside: string[]
}

/** @param args as for `vitest run` */
export async function runTests(root: string, args: string[]): Promise<TestRun> {
  const run: TestRun = { modules: [], passed: 0, failed: 0, skipped: [], retried: [], outside: [] }
  const reporter: Reporter = {
    onTestRunEnd(modules, unhandled) {
      run.modules = modules
      run.outside.push(...unhandled.map((error) => error.stack ?? error.message))
    },
  }
  const { filter, options } = parseCLI(['vitest', 'run', ...args])
  const reporters = ['default', reporter]
  const vitest = await startVitest('test', filter, { ...options, root, watch: false, reporters })
  for (const module of run.modules) count(module, root, run)
  if (run.modules.length === 0) run.outside.push('no test file was found')
  const failedSoFar = run.failed + run.outside.length
  process.exitCode = 0
  await vitest.close()
  // Set by a global teardown that fails: it has printed why.
  if (exitCode() !== 0 && failedSoFar === 0) run.outside.push('the test run did not end cleanly')
  return run
}

function exitCode(): number {
  return Number(process.exitCode)
}

function count(module: TestModule, root: string, run: TestRun): void {
  const path = relative(root, module.moduleId)
  for (const test of module.children.allTests()) {
    const { state } = test.result()
    if (state === 'passed' && (test.diagnostic()?.retryCount ?? 0) > 0) run.retried.push(`${path} > ${test.fullName}`)
    if (state === 'passed') run.passed++
    else if (state === 'failed') run.failed++
    else if (test.options.mode !== 'run' || state === 'skipped') run.skipped.push(`${path} > ${test.fullName}`)
    else run.outside.push(`${path} > ${test.fullName} did not run`)
  }
  const suites = [module, ...module.children.allSuites()]
  run.outside.push(
    ...suites.flatMap((suite) => suite.errors().map((error) => `${path}: ${error.stack ?? error.message}`)),
  )
}

export interface ProjectSummary {
  project: string
  passed: number
  failed: number
  skipped: number
  /** The time its files took, added up. */
  seconds: number
}

export function describeModules(modules: readonly TestModule[]): ProjectSummary[] {
  const byProject = Map.groupBy(modules, (module) => module.project.name)
  return [...byProject].map(([project, ofProject]) => {
    const states = ofProject.flatMap((module) => [...module.children.allTests()].map((test) => test.result().state))
    const number = (state: string): number => states.filter((other) => other === state).length
    const seconds = ofProject.reduce((sum, module) => sum + module.diagnostic().duration, 0) / 1_000
    return { project, passed: number('passed'), failed: number('failed'), skipped: number('skipped'), seconds }
  })
}

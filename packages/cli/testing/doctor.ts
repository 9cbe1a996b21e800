/** What `sluice doctor` finds in the system that an environment leads to. */
import { expect } from 'vitest'
import type { Finding, FindingId } from '../doctor/finding.ts'
import { runCli } from './run.ts'

/** @throws AssertionError when doctor could not look, or its exit code belies its findings */
export async function findingsOf(env: Record<string, string>, args: readonly string[] = []): Promise<Finding[]> {
  const { code, stdout, stderr } = await runCli(['doctor', '--json', ...args], env)
  expect(stderr).toBe('')
  const { findings } = JSON.parse(stdout) as { findings: Finding[] }
  expect(code).toBe(findings.length > 0 ? 1 : 0)
  return findings
}

export async function idsOf(env: Record<string, string>, args: readonly string[] = []): Promise<FindingId[]> {
  return (await findingsOf(env, args)).map(({ id }) => id)
}

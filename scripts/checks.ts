/** A check is a program that exits 0 when all is well. */
import { spawn } from 'node:child_process'

export interface Check {
  name: string
  /** Of Node: a program and its arguments. */
  args: string[]
  /** The command that mends it, where there is one. */
  remedy?: string
}

export interface CheckResult {
  check: Check
  ok: boolean
  seconds: number
  output: string
}

export function runCheck(root: string, check: Check): Promise<CheckResult> {
  const started = performance.now()
  const child = spawn(process.execPath, check.args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  const collect = (chunk: Buffer): void => void (output += chunk.toString())
  child.stdout.on('data', collect)
  child.stderr.on('data', collect)
  return new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => {
      resolve({ check, ok: code === 0, seconds: (performance.now() - started) / 1_000, output: output.trim() })
    })
  })
}

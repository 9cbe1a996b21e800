/** Runs the command line in this process, with an environment of its own, and keeps what it said. */
import { Cli } from '../cli.ts'
import { COMMANDS } from '../commands/list.ts'

export interface Said {
  code: number
  stdout: string
  stderr: string
}

export async function runCli(
  args: readonly string[],
  env: Record<string, string>,
  signal?: AbortSignal,
): Promise<Said> {
  let stdout = ''
  let stderr = ''
  const cli = new Cli(
    {
      env,
      stdout: (text) => void (stdout += text),
      stderr: (text) => void (stderr += text),
      colour: false,
      signal: signal ?? new AbortController().signal,
    },
    COMMANDS,
  )
  const code = await cli.main(args)
  return { code, stdout, stderr }
}

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
      // Bytes as a text of as many characters.
      stdout: (text) => void (stdout += typeof text === 'string' ? text : Buffer.from(text).toString('latin1')),
      stderr: (text) => void (stderr += text),
      colour: false,
      signal: signal ?? new AbortController().signal,
    },
    COMMANDS,
  )
  const code = await cli.main(args)
  return { code, stdout, stderr }
}

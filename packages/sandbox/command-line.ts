/** The options of the programs that npm runs (`npm run demo -- …`). Read before anything is started. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'

/** As `sluice` ends (docs/cli.md). */
const USAGE_ERROR = 2

type Values<O extends ParseArgsOptionsConfig> = ReturnType<typeof parseArgs<{ options: O }>>['values']

/**
 * Reads the program's own options. `--help` prints the usage and ends the process with 0; an option that there is not, or that lacks its value, is told in a line, and ends it with 2.
 * @param usage one line or more
 */
export function readOptions<const O extends ParseArgsOptionsConfig>(usage: string, options: O): Values<O> {
  try {
    const values: { help?: unknown } = parseArgs({ options: { ...options, help: { type: 'boolean' } } }).values
    if (values.help !== true) return values as Values<O>
  } catch (error) {
    if (!(error instanceof TypeError) || !(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS_'))
      throw error
    // Behind the first sentence Node explains what is said of no program of ours: arguments without a name.
    process.stderr.write(`${error.message.replace(/\. .*$/s, '')}\nusage: ${usage}\n`)
    process.exit(USAGE_ERROR)
  }
  process.stdout.write(`usage: ${usage}\n`)
  process.exit(0)
}

/** The options of the programs that npm runs (`npm run demo -- …`). Read before anything is started. */
import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'

/** As `sluice` ends (docs/cli.md). */
const USAGE_ERROR = 2

type Values<O extends ParseArgsOptionsConfig> = ReturnType<typeof parseArgs<{ options: O }>>['values']

/** What the value of an option must be. */
export interface Form {
  /** As it is told to whoever gave something else. */
  name: string
  fits: (text: string) => boolean
}

/** A whole number of at least `min`. */
export function wholeNumber(min = 0): Form {
  const name = min === 0 ? 'a whole number' : `a whole number of at least ${min}`
  return { name, fits: (text) => isWhole(text) && Number(text) >= min }
}

export const POSITIVE: Form = {
  name: 'a number above 0',
  fits: (text) => /^\d{1,15}(\.\d+)?$/.test(text) && Number(text) > 0,
}

export const WHOLE_NUMBERS: Form = {
  name: 'whole numbers, separated by commas',
  fits: (text) => text.split(',').every(isWhole),
}

/** Some of these words, separated by commas. */
export function someOf(words: readonly string[]): Form {
  return { name: `some of ${words.join(', ')}`, fits: (text) => text.split(',').every((word) => words.includes(word)) }
}

/** Not so long that the number would not be exact. */
function isWhole(text: string): boolean {
  return /^\d{1,15}$/.test(text)
}

/**
 * Reads the program's own options. `--help` prints the usage and ends the process with 0; an option that there is not,
 * that lacks its value, or whose value has not its form, is told in a line, and ends it with 2.
 * @param usage one line or more
 * @param forms of options that have one
 */
export function readOptions<const O extends ParseArgsOptionsConfig>(
  usage: string,
  options: O,
  forms: { [K in keyof O]?: Form } = {},
): Values<O> {
  const values: Record<string, unknown> = parsed(usage, () => parseArgs({ options: { ...options, ...HELP } })).values
  if (values.help === true) help(usage)
  for (const [option, form] of Object.entries<Form | undefined>(forms)) {
    const value = values[option]
    if (typeof value === 'string' && form?.fits(value) === false) {
      usageError(`--${option} is ${form.name}, not '${value}'`, usage)
    }
  }
  return values as Values<O>
}

/** Reads the words of a program that has no options but `--help`; otherwise as `readOptions`. */
export function readWords(usage: string): string[] {
  // pnpm hands on the -- that npm takes out.
  const args = process.argv.slice(2).filter((arg) => arg !== '--')
  const { values, positionals } = parsed(usage, () => parseArgs({ args, options: HELP, allowPositionals: true }))
  if (values.help === true) help(usage)
  return positionals
}

/** Tells what is wrong with the command line, and how it is used; ends the process with 2. */
export function usageError(message: string, usage: string): never {
  process.stderr.write(`${message}\nusage: ${usage}\n`)
  process.exit(USAGE_ERROR)
}

const HELP = { help: { type: 'boolean' } } as const

function help(usage: string): never {
  process.stdout.write(`usage: ${usage}\n`)
  process.exit(0)
}

function parsed<T>(usage: string, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof TypeError) || !(error as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS_'))
      throw error
    // Behind the first sentence Node explains what is said of no program of ours: arguments without a name.
    return usageError(error.message.replace(/\. .*$/s, ''), usage)
  }
}

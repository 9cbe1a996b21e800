/** A mutant: one deliberate fault in production code, and the test that must notice it. */

export interface Mutant {
  /** What is wrong with the code then, as one would say it. Unique. */
  name: string
  /** From the root. */
  file: string
  /** Occurs exactly once in the file. */
  find: string
  replace: string
  killedBy: Killer
}

/** Tests that fail for this mutant and pass without it. */
export interface Killer {
  /** A test file, from the root; its suffix says which project it belongs to. */
  file: string
  /** Runs only tests whose name matches: for files that take long. */
  test?: string
}

/**
 * Names the tests of a directory as killers: `killersIn('packages/indexing', 'pg')('engine', 'some test')`.
 * @param kind as the file's suffix says; default: unit tests
 */
export function killersIn(directory: string, kind?: 'pg' | 'redis'): (name: string, test?: string) => Killer {
  const suffix = kind === undefined ? '' : `.${kind}`
  return (name, test) => ({
    file: `${directory}/${name}${suffix}.test.ts`,
    ...(test === undefined ? {} : { test }),
  })
}

/** How often `find` stands in the text. */
export function occurrences(text: string, find: string): number {
  return text.split(find).length - 1
}

/**
 * The text with the fault in it.
 * @throws Error when `find` does not occur exactly once: the code has changed, and the mutant must follow it
 */
export function mutate(text: string, { name, file, find, replace }: Mutant): string {
  const count = occurrences(text, find)
  if (count !== 1) throw new Error(`mutant "${name}": its text occurs ${count} times in ${file}`)
  return text.replace(find, () => replace)
}

/** The vitest project of a test file. */
export function projectOf(file: string): string {
  return /\.(redis|pg|e2e)\.test\.ts$/.exec(file)?.[1] ?? 'unit'
}

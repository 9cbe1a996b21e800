/**
 * The protocol's interoperability vectors, beside the repository; tests that need them skip, with a notice, when they
 * are absent.
 */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('../../../../../shared/interop/', import.meta.url))

export const hasInterop = existsSync(folder)
if (!hasInterop) process.stderr.write(`interoperability vectors are not at ${folder}: their tests are skipped\n`)

/** A file of vectors, as JSON; `absent` without vectors. */
export function interopJson<T>(path: string, absent: T): T {
  return hasInterop ? (JSON.parse(readFileSync(folder + path, 'utf8')) as T) : absent
}

/** The lines of a file of vectors, without comments and blank lines; none without vectors. */
export function interopLines(path: string): string[] {
  if (!hasInterop) return []
  return readFileSync(folder + path, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
}

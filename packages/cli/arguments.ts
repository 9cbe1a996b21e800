/**
 * Parsers for numbers, ids and times on the command line, for commander's `argParser`. A text that is not valid is a
 * wrong command line (exit code 2), reported before anything is connected to.
 */
import { InvalidArgumentError } from 'commander'

/** A whole number from `min` to `max`. */
export function wholeNumber(min: number, max = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const wanted = max === Number.MAX_SAFE_INTEGER ? `of at least ${min}` : `from ${min} to ${max}`
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= min && value <= max) return value
    throw new InvalidArgumentError(`It is a whole number ${wanted}.`)
  }
}

/** A number above 0, of days or of seconds. It must be small enough that the time so long ago has a date. */
export function positive(text: string): number {
  const value = Number(text)
  if (/^(\d+\.?\d*|\.\d+)$/.test(text) && value > 0 && value <= POSITIVE_MAX) return value
  throw new InvalidArgumentError(`It is a number above 0, and of at most ${POSITIVE_MAX}.`)
}

const POSITIVE_MAX = 1_000_000

/** The id of a stream's entry, such as `1732200000000-0`. */
export function entryId(text: string): string {
  const isId = /^\d{1,20}(-\d{1,20})?$/.test(text) && text.split('-').every((part) => BigInt(part) < 2n ** 64n)
  if (isId) return text
  throw new InvalidArgumentError('It is the id of an entry, such as 1732200000000-0.')
}

/** Ids of dead letters, written in full: `1732200000000-0`. For an argument that may be given many times. */
export function letterIds(text: string, before: string[] = []): string[] {
  if (text.includes('-')) return [...before, entryId(text)]
  throw new InvalidArgumentError('It is no id of a dead letter; sluice dlq list shows them.')
}

/** The id of a sample of what was refused, written in full. */
export function sampleId(text: string): string {
  if (text.includes('-')) return entryId(text)
  throw new InvalidArgumentError('It is no id of a sample; sluice refused list shows them.')
}

/** A time as an export has it, such as `2026-11-01T00:00:00.000Z`. */
export function time(text: string): string {
  if (/^\d{4}-\d\d-\d\d/.test(text) && !Number.isNaN(Date.parse(text))) return text
  throw new InvalidArgumentError('It is a time such as 2026-11-01T00:00:00.000Z.')
}

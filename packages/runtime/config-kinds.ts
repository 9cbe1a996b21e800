/**
 * The kinds of value that an option can have: how each is read, described and written.
 *
 * Reading never throws: text that is not of the kind gives `undefined`, and `expects` describes what is accepted.
 * Whatever `format` writes, `parse` reads back as the same value.
 */

interface Common<T> {
  /** The environment variable. */
  env: string
  /** Other variables read when `env` is not set, first one first. Several options may share an alias. */
  aliases?: readonly string[]
  /** One line: what the option means for the operator. */
  help: string
  /**
   * The value is never shown, except that a url shows its scheme, user and host. The password of a url is never shown,
   * secret or not.
   */
  secret?: boolean
  /** A rule beyond the kind: returns what is wrong with the value, or undefined. */
  check?: (value: T) => string | undefined
}

/**
 * Without `default` the option is required. With `default: undefined` it may be absent. Both need an example, since
 * nothing else shows the form of a value.
 */
type Presence<T> = { default: T; example?: string } | { default?: undefined; example: string }

type Spec<T> = Common<T> & Presence<T>

export type Option =
  | ({ type: 'string' } & Spec<string>)
  | ({ type: 'integer'; min?: number; max?: number } & Spec<number>)
  | ({ type: 'boolean' } & Spec<boolean>)
  | ({ type: 'enum'; values: readonly string[] } & Spec<string>)
  /** Separated by commas; spaces around items and empty items are dropped. */
  | ({ type: 'list' } & Spec<readonly string[]>)
  /** `schemes` are allowed without colon; the first one is put before a value that has none (`redis-1:6379`). */
  | ({ type: 'url'; schemes: readonly [string, ...string[]] } & Spec<string>)
  /** A number of bytes, or with a unit: `64kb`, `512mb`, `2gb` (powers of 1024, as in redis.conf). */
  | ({ type: 'bytes'; min?: number; max?: number } & Spec<number>)
  /**
   * Milliseconds, or with a unit: `250ms`, `30s`, `5m`, `2h`. Below `unitBelow` only with a unit: a bare number that is
   * so small was meant in another unit.
   */
  | ({ type: 'duration'; min?: number; max?: number; unitBelow?: number } & Spec<number>)

export type OptionValue = string | number | boolean | readonly string[]

interface Kind<O> {
  parse(text: string, option: O): OptionValue | undefined
  expects(option: O): string
  format?(value: OptionValue, option: O): string
}

const KINDS: { [T in Option['type']]: Kind<Extract<Option, { type: T }>> } = {
  string: { parse: (text) => text, expects: () => 'a text' },
  integer: { parse: parseInteger, expects: ({ min, max }) => `an integer${rangeOf(min, max)}` },
  boolean: { parse: (text) => BOOLEANS.get(text.toLowerCase()), expects: () => 'true or false' },
  enum: {
    parse: (text, { values }) => (values.includes(text) ? text : undefined),
    expects: ({ values }) => `one of ${values.join(', ')}`,
  },
  list: {
    parse: (text) => text.split(',').flatMap((item) => item.trim() || []),
    expects: () => 'a list, separated by commas',
    format: (value) => (value as readonly string[]).join(','),
  },
  url: { parse: parseUrl, expects: expectsUrl },
  bytes: {
    parse: (text, option) => parseUnits(text, BYTES, option),
    expects: (option) => `a size such as 1048576, 64kb, 512mb or 2gb${rangeInUnits(option, BYTES)}`,
    format: (value) => formatUnits(value as number, BYTES),
  },
  duration: {
    parse: parseDuration,
    expects: (option) =>
      `a time in milliseconds, or such as 30s, 5m or 2h${rangeInUnits(option, MILLISECONDS)}${unitRule(option)}`,
    format: (value, { unitBelow = 0 }) => `${value as number}${(value as number) < unitBelow ? 'ms' : ''}`,
  },
}

const BOOLEANS = new Map([
  ...['true', '1', 'yes', 'on'].map((text) => [text, true] as const),
  ...['false', '0', 'no', 'off'].map((text) => [text, false] as const),
])
const BYTES = { gb: 1024 ** 3, mb: 1024 ** 2, kb: 1024, b: 1 }
const MILLISECONDS = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 }

/** The value that `text` stands for, or `undefined` when it is not of the option's kind. */
export function parseValue(option: Option, text: string): OptionValue | undefined {
  return kindOf(option).parse(text, option)
}

/** What the option takes, to follow "is not". */
export function expectationOf(option: Option): string {
  return kindOf(option).expects(option)
}

/** The value as an operator would write it. */
export function formatValue(option: Option, value: OptionValue): string {
  return kindOf(option).format?.(value, option) ?? String(value)
}

function kindOf(option: Option): Kind<Option> {
  return KINDS[option.type]
}

function parseInteger(text: string, { min = -Infinity, max = Infinity }: { min?: number; max?: number }) {
  const value = Number(text)
  return /^[+-]?\d+$/.test(text) && Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined
}

/** A range may have no bound, one or two. */
interface Range {
  min?: number
  max?: number
}

function rangeInUnits({ min, max }: Range, units: Record<string, number>): string {
  const range = rangeOf(min && formatUnits(min, units), max && formatUnits(max, units))
  return range === '' ? '' : `,${range}`
}

function rangeOf(min?: number | string, max?: number | string): string {
  if (min !== undefined && max !== undefined) return ` from ${min} to ${max}`
  if (min !== undefined) return ` of at least ${min}`
  return max === undefined ? '' : ` of at most ${max}`
}

function parseUrl(text: string, { schemes }: { schemes: readonly string[] }): string | undefined {
  if (/^\w+:\/(?!\/)/.test(text)) return undefined // a slash is missing: the scheme must not be taken for a host
  const url = text.includes('://') ? text : `${schemes[0]}://${text}`
  // A Unix socket (`postgres:///db?host=/run/postgresql`) has no host, so an empty one is allowed.
  return URL.canParse(url) && schemes.includes(new URL(url).protocol.slice(0, -1)) ? url : undefined
}

function expectsUrl({ schemes }: { schemes: readonly [string, ...string[]] }): string {
  return `a URL (${schemes.map((scheme) => `${scheme}://…`).join(' or ')}; without a scheme it is ${schemes[0]}://)`
}

function parseUnits(
  text: string,
  units: Record<string, number>,
  { min = 0, max = Infinity }: Range,
): number | undefined {
  const match = /^(\d+)([a-z]*)$/.exec(text.toLowerCase())
  const factor = match?.[2] === '' ? 1 : units[match?.[2] ?? '']
  const value = Number(match?.[1]) * (factor ?? NaN)
  return Number.isSafeInteger(value) && value >= min && value <= max ? value : undefined
}

type Duration = Range & { unitBelow?: number }

function parseDuration(text: string, option: Duration): number | undefined {
  const value = parseUnits(text, MILLISECONDS, option)
  const isBare = /^\d+$/.test(text)
  return value !== undefined && isBare && value < (option.unitBelow ?? 0) ? undefined : value
}

function unitRule({ unitBelow }: Duration): string {
  return unitBelow === undefined
    ? ''
    : `, below ${formatUnits(unitBelow, MILLISECONDS)} only with its unit, such as 250ms`
}

function formatUnits(value: number, units: Record<string, number>): string {
  const unit = Object.entries(units).find(([, factor]) => value >= factor && value % factor === 0)
  return unit ? `${value / unit[1]}${unit[0]}` : String(value)
}

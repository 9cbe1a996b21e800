/**
 * Configuration: one literal per service is the only source of names, types, defaults, help and documentation.
 *
 *     const ingesterConfig = defineConfig({
 *       name: 'ingester',
 *       summary: 'brings firehose, repositories and labels to Redis',
 *       options: {
 *         ...redisOptions,
 *         batchEvents: { env: 'INGESTER_BATCH_SIZE', type: 'integer', min: 1, default: 500, help: 'Events in one append.' },
 *       },
 *     })
 *     type IngesterConfig = ConfigOf<typeof ingesterConfig>            // { batchEvents: number, … }
 *     const config = loadConfig(ingesterConfig, process.env, { known })
 *
 * Reading is strict and total: every problem is told at once, and a variable that looks like ours but is not stops the
 * start, because a misspelt setting that is silently ignored costs days. An empty variable counts as not set, as
 * compose passes it.
 */
import { unknownNames } from './config-names.ts'
import { expectationOf, formatValue, parseValue, type Option, type OptionValue } from './config-kinds.ts'
import { FatalError } from './errors.ts'
import { redact } from './redact.ts'

export type Options = Readonly<Record<string, Option>>
export type Env = Readonly<Record<string, string | undefined>>

export interface Definition<O extends Options = Options> {
  /** The role, as in the image's name. */
  readonly name: string
  /** What the role does, as a phrase that follows its name. */
  readonly summary: string
  readonly options: O
  readonly distinct?: Distinct
}

/** Options (texts or lists) whose values are names in one namespace, where no two things may have the same name. */
export interface Distinct<Key extends string = string> {
  readonly keys: readonly Key[]
  /** Further names that are taken together with a name. */
  readonly alsoTaken?: (name: string) => readonly string[]
}

/** What `loadConfig` returns for a definition: its keys with parsed values. */
export type ConfigOf<D> = D extends Definition<infer O> ? { readonly [K in keyof O]: ValueOf<O[K]> } : never

type ValueOf<O extends Option> = O extends { default: infer D }
  ? D extends undefined
    ? Base<O> | undefined
    : Base<O>
  : Base<O>

type Base<O extends Option> = O extends { type: 'enum'; values: readonly (infer V)[] }
  ? V
  : O extends { type: 'integer' | 'bytes' | 'duration' }
    ? number
    : O extends { type: 'boolean' }
      ? boolean
      : O extends { type: 'list' }
        ? readonly string[]
        : string

/** The configuration is wrong. The message names every problem, so that they can all be corrected at once. */
export class ConfigError extends FatalError {
  override name = 'ConfigError'
  readonly problems: readonly string[]
  constructor(role: string, problems: readonly string[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`
    super(`${role} cannot start: ${count} in its environment\n${problems.map((p) => `  - ${p}\n`).join('')}`)
    this.problems = problems
  }
}

/**
 * Declares a service's configuration.
 * @throws FatalError for a literal that contradicts itself: a default or example that its own kind refuses, a name used
 * twice
 */
export function defineConfig<const O extends Options>(
  definition: Definition<O> & { readonly distinct?: Distinct<NoInfer<keyof O & string>> },
): Definition<O> {
  const options = Object.values<Option>(definition.options)
  const names = options.map((option) => option.env)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) throw new FatalError(`${definition.name}: two options read ${twice}`)
  for (const option of options) {
    if (!/^[A-Z][A-Z0-9_]+$/.test(option.env)) throw new FatalError(`${option.env} is no name for a variable`)
    if (option.help === '' || option.help.includes('\n')) throw new FatalError(`${option.env} needs one line of help`)
    const wrong = read(option, exampleOf(option)).problem
    if (wrong !== undefined) throw new FatalError(`the default or example of ${option.env} ${wrong}`)
  }
  return definition
}

/**
 * Reads the environment.
 * @param options.known variables of the other services: one env file may serve all roles
 * @throws ConfigError with all problems, each with the variable, what is wrong and an example; values of secrets stay
 * unsaid
 */
export function loadConfig<O extends Options>(
  definition: Definition<O>,
  env: Env,
  { known = [] }: { known?: Iterable<string> } = {},
): ConfigOf<Definition<O>> {
  const settings = settingsOf(definition, env)
  const problems = [
    ...settings.flatMap(({ problem }) => problem ?? []),
    ...unknownNames(env, new Set([...namesOf(definition), ...known])),
  ]
  if (problems.length > 0) throw new ConfigError(definition.name, problems)
  return Object.fromEntries(settings.map(({ key, value }) => [key, value])) as ConfigOf<Definition<O>>
}

/** Every variable a service reads, aliases included. */
export function namesOf({ options }: Definition): string[] {
  return Object.values(options).flatMap((option) => [option.env, ...(option.aliases ?? [])])
}

/** The text to write behind `NAME=`. */
export function exampleOf(option: Option): string {
  return option.example ?? formatValue(option, option.default!)
}

/** One option with its effective value and where that came from: a variable's name, `default`, or `not set`. */
export interface Setting {
  readonly key: string
  readonly option: Option
  readonly source: string
  readonly value?: OptionValue | undefined
  /** A whole sentence for the operator; present exactly when the value cannot be used. */
  readonly problem?: string
}

/** The effective settings, in the literal's order; never throws. */
export function settingsOf({ options, distinct }: Definition, env: Env): Setting[] {
  const settings = Object.entries(options).map(([key, option]): Setting => {
    const source = [option.env, ...(option.aliases ?? [])].find((name) => textOf(env, name) !== undefined)
    if (source !== undefined)
      return { key, option, source, ...explain(option, source, read(option, textOf(env, source)!)) }
    if (option.default !== undefined) return { key, option, source: 'default', value: option.default }
    if ('default' in option) return { key, option, source: 'not set' }
    const problem = `${option.env} is required: ${option.help} For example ${option.env}=${exampleOf(option)}`
    return { key, option, source: 'not set', problem }
  })
  return distinct === undefined ? settings : settings.map((setting) => distinguished(setting, settings, distinct))
}

/**
 * Returns the setting, with a problem when its name is taken by another setting. If only one of the two was set by the
 * operator, the problem is in that one; if both were set, in the later one.
 */
function distinguished(setting: Setting, settings: readonly Setting[], { keys, alsoTaken }: Distinct): Setting {
  const { key, option, source } = setting
  if (!keys.includes(key) || source === 'default') return setting
  const isBefore = (other: Setting) => other.source === 'default' || settings.indexOf(other) < settings.indexOf(setting)
  for (const other of settings.filter((one) => one !== setting && keys.includes(one.key) && isBefore(one))) {
    const name = takenTwice(namesIn(setting), namesIn(other), alsoTaken)
    if (name === undefined) continue
    const whose = `${other.option.env} (${other.source === 'default' ? 'by default ' : ''}${namesIn(other).join(',')})`
    return { key, option, source, problem: `${source} names ${name}, which is in use by ${whose}` }
  }
  return setting
}

function namesIn({ value }: Setting): readonly string[] {
  return typeof value === 'object' ? value : typeof value === 'string' ? [value] : []
}

/** The first of `names` that is one of `others`, is taken together with one of them, or takes one of them with it. */
function takenTwice(
  names: readonly string[],
  others: readonly string[],
  alsoTaken: Distinct['alsoTaken'] = () => [],
): string | undefined {
  const taken = new Set(others.flatMap((other) => [other, ...alsoTaken(other)]))
  return names.find((name) => taken.has(name) || alsoTaken(name).some((also) => others.includes(also)))
}

function textOf(env: Env, name: string): string | undefined {
  return env[name]?.trim() || undefined
}

type Reading = { value: OptionValue; problem?: undefined } | { value?: undefined; problem: string }

/** Reads the value of an option. `problem` is a phrase that follows the name of the variable. */
function read(option: Option, text: string): Reading {
  const value = parseValue(option, text)
  // A URL that cannot be parsed cannot be masked either, so it is not shown.
  const shown = option.secret || option.type === 'url' ? '' : ` (${redact(JSON.stringify(text))})`
  if (value === undefined) return { problem: `is not ${expectationOf(option)}${shown}` }
  const problem = (option.check as ((value: OptionValue) => string | undefined) | undefined)?.(value)
  return problem === undefined ? { value } : { problem: `${redact(problem)}${shown}` }
}

function explain(option: Option, source: string, reading: Reading): Pick<Setting, 'value' | 'problem'> {
  if (reading.problem === undefined) return reading
  const alias = source === option.env ? '' : ` (alias of ${option.env})`
  return { problem: `${source}${alias} ${reading.problem}. For example ${source}=${exampleOf(option)}` }
}

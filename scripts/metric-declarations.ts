/**
 * Reads from the sources which metrics a role exports: name, type, labels, help. A pure function from files to
 * declarations.
 *
 * A metric is a call of `counter`, `gauge` or `histogram` with a literal, in a file that the role's main.ts reaches by
 * imports. The sources are read, and not a running daemon, because some metrics are declared only once Redis and
 * Postgres were reached. What cannot be read is a problem, never left out: every text that looks like a metric's name
 * has to end up as a declaration.
 */
import {
  parseSync,
  Visitor,
  type CallExpression,
  type Expression,
  type ObjectExpression,
  type ParseResult,
} from 'oxc-parser'

/** Path (from the root, with `/`) to text. */
export type Sources = ReadonlyMap<string, string>

export type MetricType = 'counter' | 'gauge' | 'histogram'

export interface Metric {
  name: string
  type: MetricType
  labels: string[]
  help: string
}

export interface Declared {
  /** By name. */
  metrics: Metric[]
  /** One sentence each, with the file. */
  problems: string[]
}

const METRIC_NAME = /^sluice_[a-z][a-z0-9_]*$/
/** Text of this form that names something else. */
const OTHER_NAMES: readonly string[] = ['sluice_adoption_check']

/** @param entry the role's first file, e.g. `services/indexer/main.ts` */
export function declaredMetrics(sources: Sources, entry: string): Declared {
  const found = reachable(sources, entry).map((path) => metricsOf(path, sources.get(path)!))
  const metrics = found.flatMap((one) => one.metrics).toSorted((a, b) => (a.name < b.name ? -1 : 1))
  const twice = metrics.filter(({ name }, i) => metrics[i - 1]?.name === name)
  const problems = [
    ...found.flatMap((one) => one.problems),
    ...twice.map(({ name }) => `${name} is declared twice in what ${entry} imports`),
  ]
  return { metrics, problems }
}

/**
 * Every source that `entry` loads, itself included; type imports load nothing, and what is no program (a lexicon, as
 * JSON) is none.
 */
export function reachable(sources: Sources, entry: string): string[] {
  const seen = new Set([entry])
  for (const path of seen) {
    const { staticImports } = parsed(path, textOf(sources, path)).module
    for (const { entries, moduleRequest } of staticImports) {
      const target = resolve(path, moduleRequest.value)
      const isType = entries.length > 0 && entries.every((one) => one.isType)
      if (target?.endsWith('.ts') && !isType) seen.add(target)
    }
  }
  return [...seen]
}

/** Most files are read for every role, and each twice: parsing them once takes a sixth of the time. */
const files = new Map<string, { text: string; result: ParseResult }>()

function parsed(path: string, text: string): ParseResult {
  const known = files.get(path)
  if (known?.text === text) return known.result
  const result = parseSync(path, text)
  files.set(path, { text, result })
  return result
}

function textOf(sources: Sources, path: string): string {
  const text = sources.get(path)
  if (text === undefined) throw new Error(`${path} is imported and does not exist`)
  return text
}

/** Undefined for what is not ours. */
function resolve(from: string, specifier: string): string | undefined {
  if (specifier.startsWith('.')) return new URL(specifier, `file:///${from}`).pathname.slice(1)
  const own = /^@sluice\/(.+)$/.exec(specifier)?.[1]
  if (own === undefined) return undefined
  return /^(ingester|backfiller|indexer)\//.test(own) ? `services/${own}` : `packages/${own}`
}

function metricsOf(path: string, text: string): Declared {
  const metrics: Metric[] = []
  const names = new Set<string>()
  const problems: string[] = []
  new Visitor({
    CallExpression(node) {
      const type = calledType(node)
      const metric = type && metricOf(type, node)
      if (metric) metrics.push(metric)
    },
    Literal: (node) => typeof node.value === 'string' && METRIC_NAME.test(node.value) && names.add(node.value),
  }).visit(parsed(path, text).program)
  for (const name of names) {
    if (OTHER_NAMES.includes(name) || metrics.some((metric) => metric.name === name)) continue
    problems.push(`${path}: ${name} looks like a metric, and its name, help and labels are no literals`)
  }
  return { metrics, problems }
}

function calledType({ callee }: CallExpression): MetricType | undefined {
  const called = callee.type === 'MemberExpression' ? callee.property : callee
  const name = called.type === 'Identifier' ? called.name : ''
  return name === 'counter' || name === 'gauge' || name === 'histogram' ? name : undefined
}

/** `counter({ name, help, labels })`, or `gauge(name, help, …)` as a local function for many of a kind. */
function metricOf(type: MetricType, node: CallExpression): Metric | undefined {
  const [first, second] = node.arguments as (Expression | undefined)[]
  if (first?.type === 'ObjectExpression') {
    const fields = fieldsOf(first)
    const [name, help] = [stringOf(fields.get('name')), stringOf(fields.get('help'))]
    const labels = fields.get('labels')
    if (name === undefined || help === undefined) return undefined
    if (labels === undefined) return { name, type, labels: [], help }
    return labels.type === 'ObjectExpression' ? { name, type, labels: [...fieldsOf(labels).keys()], help } : undefined
  }
  const [name, help] = [stringOf(first), stringOf(second)]
  return name === undefined || help === undefined ? undefined : { name, type, labels: [], help }
}

function fieldsOf({ properties }: ObjectExpression): Map<string, Expression> {
  return new Map(
    properties.flatMap((property) =>
      property.type === 'Property' && property.key.type === 'Identifier' ? [[property.key.name, property.value]] : [],
    ),
  )
}

/** The value of a string literal, or of several joined by `+`. */
function stringOf(node: Expression | undefined): string | undefined {
  if (node?.type === 'Literal' && typeof node.value === 'string') return node.value
  if (node?.type === 'TemplateLiteral' && node.expressions.length === 0)
    return node.quasis[0]!.value.cooked ?? undefined
  if (node?.type !== 'BinaryExpression' || node.operator !== '+') return undefined
  const [left, right] = [stringOf(node.left), stringOf(node.right)]
  return left === undefined || right === undefined ? undefined : left + right
}

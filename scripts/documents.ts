/** The generated files, as a pure function from the roles' configurations and metrics: path to text. */
import { namesOf, type Definition } from '@sluice/runtime/config.ts'
import { renderTable } from '@sluice/runtime/config-render.ts'
import type { Metric } from './metric-declarations.ts'

export interface RoleFacts {
  config: Definition
  metrics: readonly Metric[]
}

const NOTICE = '<!-- Written by `npm run docs` from the sources; change those. -->'

/** Unformatted: the caller knows the formatter. @param cli the literal of the command line, which reads the roles' variables too */
export function renderDocuments(roles: readonly RoleFacts[], cli: Definition): Map<string, string> {
  const configs = [...roles.map(({ config }) => config), cli]
  return new Map([
    ['docs/configuration.md', configuration(configs)],
    ['docs/metrics.md', metricsDocument(roles)],
    ['packages/runtime/variables.ts', variables(configs)],
  ])
}

function configuration(configs: readonly Definition[]): string {
  const sections = configs.map(
    ({ name, summary, options }) => `## ${name}\n\nIt ${summary}.\n\n${renderTable(options)}`,
  )
  return `${NOTICE}

# Configuration

Every daemon is set up by environment variables. All of them are here; \`--help\` of a daemon prints its own.

- One env file may serve all roles: a daemon ignores what belongs to another.
- A variable that looks like ours and is not stops the start, and the answer names the nearest one that is. So does a value
  that is not of its kind, and a required variable that is missing: all of it is told at once, and the exit code is 78.
  So do two streams of one role that have the same name, or a name that is in use beside the other (\`_priority\`, \`_dlq\`).
- An empty variable counts as not set. Aliases are read when the variable itself is not set, first one first.
- Sizes take \`kb\`, \`mb\`, \`gb\` (powers of 1024); times take \`ms\`, \`s\`, \`m\`, \`h\`.
- Passwords in URLs never appear in logs, and \`sluice config\` shows the effective values without them.

The command line, \`sluice\`, reads the variables of the daemons, so that it sees the system as they do, and its own at the end.
\`SLUICE_BUILD_ID\` is set by the image build and names the build in logs, in \`/health\` and as a metric.

${sections.join('\n')}`
}

function metricsDocument(roles: readonly RoleFacts[]): string {
  const shared = roles[0]!.metrics.filter((metric) => roles.every((role) => includes(role, metric)))
  const sections = roles.map(({ config, metrics }) => {
    const own = metrics.filter((metric) => !shared.includes(metric) && !shared.some(({ name }) => name === metric.name))
    return `## ${config.name}\n\n${table(own)}`
  })
  return `${NOTICE}

# Metrics

Each daemon serves \`/metrics\` on its \`METRICS_PORT\`, in the text format of Prometheus. Label sets are closed, and every
combination is exported from the start, at 0, so that an alert can be written before the first failure.

The dashboard in \`infra/grafana\` and the alerts in \`infra/prometheus\` are built on these; a test holds them together.
Beside them there are \`process_*\` and \`nodejs_*\`, as prom-client exports them for every Node process.

## Every daemon

${table(shared)}
${sections.join('\n')}`
}

function includes(role: RoleFacts, { name }: Metric): boolean {
  return role.metrics.some((metric) => metric.name === name)
}

function table(metrics: readonly Metric[]): string {
  const rows = metrics.map(({ name, type, labels, help }) => {
    return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${escape(help)} |\n`
  })
  return `| Metric | Type | Labels | Meaning |\n| --- | --- | --- | --- |\n${rows.join('')}`
}

/** A bar would end the cell, and `<stream>` would be a tag. */
function escape(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;')
}

function variables(configs: readonly Definition[]): string {
  const names = [...new Set(configs.flatMap((config) => namesOf(config)))].toSorted()
  return `/** Every variable that a role of ours reads: one env file may serve all of them. Written by \`npm run docs\`. */
export const VARIABLES: readonly string[] = ${JSON.stringify(names)}
`
}

/** The generated files, as a pure function from the roles' configurations and metrics: path to text. */
import { namesOf, type Definition } from '@sluice/runtime/config.ts'
import { renderTable } from '@sluice/runtime/config-render.ts'
import type { Metric } from './metric-declarations.ts'

export interface RoleFacts {
  config: Definition
  metrics: readonly Metric[]
}

const NOTICE = '<!-- Written by `npm run docs` from the sources; change those. -->'

/**
 * Unformatted: the caller knows the formatter.
 * @param cli the literal of the command line, which reads the roles' variables too
 */
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

Every daemon is set up by environment variables. This page lists all of them; \`--help\` of a daemon prints its own.

- One env file may serve all roles: a daemon ignores the variables of the others.
- A daemon does not start, and ends with exit code 78, when something here is wrong. It names all problems at once:
  - a variable whose name looks like one of Sluice's but is none; it names the nearest one;
  - a value that is not of its kind;
  - a required variable that is missing;
  - two streams of one role with the same name, or one whose name is in use beside another (such as \`<other>_priority\` or \`<other>_dlq\`).
- What a server says of a value (a password that it refuses, a database that it does not have) is another matter: [when a daemon ends](operations.md#when-a-daemon-ends).
- An empty variable counts as not set. Where a row lists several names, the others are aliases: they are read, in this order, when the first is not set.
- A URL may be written without its scheme. It gets the first one that its row names: \`REDIS_URL=localhost\` is \`redis://localhost\`, at Redis' own port, and \`DB_POSTGRES_URL=localhost\` is \`postgres://localhost\`.
- Sizes may have a unit, \`kb\`, \`mb\` or \`gb\` (powers of 1024); times may have \`ms\`, \`s\`, \`m\` or \`h\`.
- Passwords in URLs never appear in logs, and \`sluice config\` shows the effective values without them.

The command line, \`sluice\`, reads the variables of the daemons, so that it sees the system as they do. It has one variable of its own, at the end of this page.
The image build sets \`SLUICE_BUILD_ID\`. It names the build in logs, in \`/health\` and in a metric.

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

Each daemon serves \`/metrics\` on its \`METRICS_PORT\`, in the text format of Prometheus. The values of each label are a fixed list. Every
combination of them is exported from the start, at 0, so that an alert can be written before the first failure.

The dashboard in \`infra/grafana\` and the alerts in \`infra/prometheus\` use these metrics; a test checks that they exist.
Each daemon also exports \`process_*\` and \`nodejs_*\`, which prom-client has for every Node process.

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

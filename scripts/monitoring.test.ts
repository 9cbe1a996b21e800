import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { parser } from '@prometheus-io/lezer-promql'
import { Metrics } from '@sluice/runtime/metrics.ts'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { anchorsOf } from './testing/anchors.ts'
import type { Metric } from './metric-declarations.ts'
import { configOf, readRoles, root } from './roles.ts'

interface Query {
  /** Shown in failures. */
  where: string
  expr: string
}

interface Rule {
  alert: string
  expr: string
  labels: { severity: string }
  annotations: { summary: string; runbook: string }
}

interface Panel {
  id: number
  title: string
  description: string
  gridPos: { x: number; y: number; w: number; h: number }
  datasource: { uid: string }
  targets: { expr: string; legendFormat: string }[]
}

const read = (path: string): string => readFileSync(join(root, path), 'utf8')
const { groups } = parse(read('infra/prometheus/alerts.yml')) as { groups: { rules: Rule[] }[] }
const rules = groups.flatMap((group) => group.rules)
const dashboard = JSON.parse(read('infra/grafana/dashboards/pipeline.json')) as { panels: Panel[] }
const queries: Query[] = [
  ...rules.map(({ alert, expr }) => ({ where: alert, expr })),
  ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => ({ where: title, expr }))),
]
const { roles } = await readRoles()
const metrics = new Map(roles.flatMap((role) => role.metrics).map((metric) => [metric.name, metric]))
const ofNode = new Set(
  [...(await new Metrics({ role: 'x', build: 'x' }).render()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!),
)

/** Which alerts fire: a series that Prometheus makes itself. */
const ALERTS = { series: 'ALERTS', labels: ['alertname', 'alertstate'] }

/** The names of series, and the labels matched or grouped by in the expression, from its syntax tree. */
function termsOf(expr: string): { series: string[]; labels: string[]; isValid: boolean } {
  const [series, labels]: [string[], string[]] = [[], []]
  let isValid = true
  parser.parse(expr).iterate({
    enter({ type, from, to }) {
      if (type.isError) isValid = false
      // A metric's name; and a label's, which the grammar calls LabelName in matchers and in groupings alike.
      if (type.name === 'Identifier') series.push(expr.slice(from, to))
      if (type.name === 'LabelName') labels.push(expr.slice(from, to))
    },
  })
  return { series, labels, isValid }
}

/** The declared metric of a series: histograms are told as three. */
function metricOf(series: string): Metric | undefined {
  const metric = metrics.get(series) ?? metrics.get(series.replace(/_(bucket|sum|count)$/, ''))
  return metric && (metric.type === 'histogram') === (metric.name !== series) ? metric : undefined
}

test('an expression that is no PromQL is noticed, and terms are found where they stand', () => {
  expect(termsOf('sum by (a) (rate(x_total[5m])').isValid).toBe(false)
  expect(termsOf('sum by (a) (rate(x_total{b="c"}[5m])) > 0')).toEqual({
    series: ['x_total'],
    labels: ['a', 'b'],
    isValid: true,
  })
})

test('every expression of the alerts and the dashboard is PromQL', () => {
  expect(queries.length).toBeGreaterThan(50)
  expect(queries.filter(({ expr }) => !termsOf(expr).isValid)).toEqual([])
})

test('every metric of the alerts and the dashboard exists, as counter where a rate is taken and as gauge where not', () => {
  for (const { where, expr } of queries) {
    const { series } = termsOf(expr)
    expect(series.length, where).toBeGreaterThan(0)
    const unknown = series.filter((name) => metricOf(name) === undefined && !ofNode.has(name) && name !== ALERTS.series)
    expect(unknown, `${where}: ${expr}`).toEqual([])
    for (const [, name] of expr.matchAll(/(?:rate|increase)\((\w+)/g))
      expect(name, where).toMatch(/_(total|bucket|sum|count)$/)
  }
})

test('every label of the alerts and the dashboard is one that a metric of the expression has, or Prometheus adds', () => {
  for (const { where, expr } of queries) {
    const { series, labels } = termsOf(expr)
    const labelsOf = (name: string) => (name === ALERTS.series ? ALERTS.labels : (metricOf(name)?.labels ?? []))
    const known = new Set(['le', 'instance', 'job', ...series.flatMap(labelsOf)])
    expect(
      labels.filter((label) => !known.has(label)),
      `${where}: ${expr}`,
    ).toEqual([])
  }
})

test('an alert that gives way to another names one that there is, fires, and is as loud', () => {
  const severities = new Map(rules.map(({ alert, labels }) => [alert, labels.severity]))
  const others = rules.flatMap(({ alert, expr, labels }) =>
    [...expr.matchAll(/\bALERTS\{([^}]*)\}/g)].map(([, matchers = '']) => ({ alert, matchers, ...labels })),
  )
  expect(others.length).toBeGreaterThan(0)
  for (const { alert, matchers, severity } of others) {
    const [, other] = /^alertname="(\w+)",alertstate="firing"$/.exec(matchers) ?? []
    expect(severities.get(other ?? matchers), `${alert}: ${matchers}`).toBe(severity)
  }
})

test('every alert says how bad it is, what it means, and shows labels that its expression keeps', () => {
  expect(new Set(rules.map(({ alert }) => alert)).size).toBe(rules.length)
  for (const { alert, expr, labels, annotations } of rules) {
    expect(['page', 'ticket'], alert).toContain(labels.severity)
    expect(annotations.summary.length, alert).toBeGreaterThan(40)
    for (const [, label] of annotations.summary.matchAll(/\$labels\.(\w+)/g)) {
      expect([...termsOf(expr).labels, 'instance'], `${alert} shows ${label}`).toContain(label)
    }
  }
})

test('a part of the ingester that may run in a process of its own is watched by itself: its mode, and what vanishes with it', async () => {
  const { mode } = (await configOf('ingester')).options as { mode?: { values: readonly string[] } }
  const parts = {
    firehose: 'sluice_ingester_connected',
    backfill: 'sluice_ingester_listing_phase',
    labeler: 'sluice_ingester_labelers_connected',
  }
  expect(Object.keys(parts).toSorted()).toEqual(mode!.values.filter((value) => value !== 'all').toSorted())
  for (const [part, metric] of Object.entries(parts)) {
    const watching = rules.filter(({ expr }) => expr.includes(`absent(${metric})`))
    expect(watching.length, part).toBe(1)
    expect(watching[0]!.annotations.runbook, part).toBe('DATAPLANE_DEBUG.md#daemon-silent')
  }
})

test('of processes that read one host, each its shard, the worst is told and not the best', () => {
  const expressions = rules.map(({ expr }) => expr)
  expect(expressions.some((expr) => /min by \(host\) \(sluice_ingester_connected/.test(expr))).toBe(true)
  expect(expressions.filter((expr) => /max by \([a-z, ]*\) \(sluice_ingester_connected/.test(expr))).toEqual([])
})

test('the stream of repositories, which is held for as long as a backfill takes, neither wakes anybody nor hides anything', () => {
  const selectors = rules.flatMap(({ alert, expr }) =>
    [...expr.matchAll(/sluice_ingester_backpressure(\{[^}]*\})?/g)].map(([, matchers = '']) => ({ alert, matchers })),
  )
  expect(selectors.length).toBeGreaterThan(2)
  // Memory is one for all streams, and the mark of the ingester lies above that of the backfiller.
  const byEntries = selectors.filter(({ matchers }) => !matchers.includes('by="memory"'))
  // Shards in one Redis call theirs repo_backfill:0 and so on.
  expect(byEntries.filter(({ matchers }) => !matchers.includes('stream!~"repo_backfill.*"'))).toEqual([])
})

test('a source that is quiet wakes nobody: old events count where events come', () => {
  const aged = rules.filter(({ expr }) => expr.includes('sluice_ingester_last_event_age_seconds'))
  expect(aged.length).toBe(1)
  expect(aged[0]!.expr).toMatch(
    /and on \(host\) sum by \(host\) \(rate\(sluice_ingester_frames_total\[1h\]\)\) > 0\.1$/,
  )
})

test('a Redis that holds the backfiller is told, since what fills it may never drain', () => {
  const full = rules.filter(({ expr }) => expr.includes('sluice_backfill_held_back{by="memory"}'))
  expect(full.map(({ annotations }) => annotations.runbook)).toEqual(['DATAPLANE_DEBUG.md#redis-near-limit'])
})

test('an incident of any kind raises one alert at most, counted by whichever role records it', () => {
  for (const { config, metrics: own } of roles)
    expect(
      own.map(({ name }) => name),
      config.name,
    ).toContain('sluice_incidents_total')
  const lost = ['group-lost', 'phantom-entries']
  // What has an alert of its own, or is mended by the next consumer, is left out by name: a new kind is told.
  const selectors = [`kind=~"${lost.join('|')}"`, `kind!~"${['consumer-died', 'dead-letters', ...lost].join('|')}"`]
  const told = rules.filter(({ expr }) => expr.includes('sluice_incidents_total'))
  expect(told.map(({ annotations }) => annotations.runbook)).toEqual(
    selectors.map(() => 'DATAPLANE_DEBUG.md#incidents'),
  )
  for (const [i, { expr, alert }] of told.entries()) {
    const used = [...expr.matchAll(/sluice_incidents_total\{([^}]*)\}/g)].map(([, matchers]) => matchers)
    expect(used, alert).toEqual([selectors[i], selectors[i]])
    // A relay tells of lost events as soon as it is connected: before the first scrape, after which the counter does
    // not rise.
    expect(expr, alert).toContain('process_start_time_seconds')
  }
})

test('every alert names a diagnosis of `sluice doctor`', async () => {
  const { href } = pathToFileURL(join(root, 'packages/cli/doctor/finding.ts'))
  const { FINDINGS } = (await import(href)) as { FINDINGS: readonly string[] }
  for (const { alert, annotations } of rules) {
    const [, entry] = /^DATAPLANE_DEBUG\.md#([a-z-]+)$/.exec(annotations.runbook) ?? []
    expect(FINDINGS, `${alert}: ${annotations.runbook}`).toContain(entry)
  }
})

test('every alert names an entry of DATAPLANE_DEBUG.md', () => {
  const entries = anchorsOf(read('DATAPLANE_DEBUG.md'))
  const named = rules.map(({ annotations }) => annotations.runbook.split('#')[1]!)
  expect(named.filter((anchor) => !entries.has(anchor))).toEqual([])
})

test('the panels have their own places on a screen of 24 columns, and the datasource that is provisioned', () => {
  const { datasources } = parse(read('infra/grafana/provisioning/datasources/prometheus.yml')) as {
    datasources: { uid: string }[]
  }
  const taken = new Set<string>()
  for (const { title, description, gridPos, datasource } of dashboard.panels) {
    expect(description.length, title).toBeGreaterThan(5)
    expect(datasource.uid).toBe(datasources[0]!.uid)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        expect(x, title).toBeLessThan(24)
        expect(taken.has(`${x},${y}`), `${title} overlaps at ${x},${y}`).toBe(false)
        taken.add(`${x},${y}`)
      }
    }
  }
})

/**
 * Metrics of one process, built on prom-client: with a registry of their own, no globals.
 *
 * Every metric has help and a closed set of labels, and every combination of labels is exported from the start: a
 * counter that appears only with its first failure cannot be used for an alert. Declare a metric once, at construction,
 * never per run.
 *
 * A value outside its label's set is a bug of ours. Where `strict` (NODE_ENV=test, which vitest sets and child
 * processes inherit) it throws. In production it counts as `other`: a wrong label must neither stop the data nor grow
 * the registry.
 */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import { FatalError } from './errors.ts'

/** Label name → the values it can have. */
export type Labels = Readonly<Record<string, readonly string[]>>
type LabelValues<L extends Labels> = { readonly [K in keyof L]: L[K][number] }
/** The labels are the last argument, for metrics that declare labels: `inc(3)`, `inc(3, { reason: 'no-key' })`. */
type Args<L extends Labels> = string extends keyof L ? [] : [labels: LabelValues<L>]

export interface MetricSpec<L extends Labels> {
  /** `sluice_<what>_<unit>`, counters with `_total` behind it. */
  name: string
  /** What the metric means for the operator. */
  help: string
  labels?: L
  /** Labels whose values come from the operator's configuration: hosts, streams. There may be any number of them. */
  configured?: readonly string[]
}

export interface CounterOf<L extends Labels> {
  /** @param by not negative */
  inc(by: number, ...labels: Args<L>): void
}
export interface GaugeOf<L extends Labels> {
  set(value: number, ...labels: Args<L>): void
}
export interface HistogramOf<L extends Labels> {
  observe(value: number, ...labels: Args<L>): void
}

export interface MetricsOptions {
  role: string
  build: string
  strict?: boolean
  /** How long a gauge's `collect` may keep a scrape waiting. */
  collectMs?: number
}

/**
 * The most series of one metric, for each value that comes from the configuration. A metric with more has no closed set
 * of labels any more.
 */
const MAX_SERIES = 1000
const OTHER = 'other'

export class Metrics {
  readonly #registry = new Registry()
  readonly #strict: boolean
  readonly #collectMs: number
  readonly #collectFailures: CounterOf<Labels>

  constructor({ role, build, strict = process.env.NODE_ENV === 'test', collectMs = 2000 }: MetricsOptions) {
    this.#strict = strict
    this.#collectMs = collectMs
    collectDefaultMetrics({ register: this.#registry })
    this.gauge({
      name: 'sluice_build_info',
      help: 'Always 1; its labels say which build runs in which role.',
      labels: { role: [role], build: [build] },
    }).set(1, { role, build })
    this.#collectFailures = this.counter({
      name: 'sluice_metrics_collect_failures_total',
      help: 'How often a gauge could not be read for a scrape and shows its last value. What it watches is probably down.',
    })
  }

  counter<const L extends Labels = Labels>(spec: MetricSpec<L>): CounterOf<L> {
    if (!spec.name.endsWith('_total')) throw new FatalError(`the counter ${spec.name} must end in _total`)
    const counter = new Counter(this.#describe(spec))
    for (const labels of this.#series(spec)) counter.inc(labels, 0)
    return { inc: (by, ...[labels]) => counter.inc(this.#close(spec, labels), this.#amount(spec, by)) }
  }

  /** @param spec.collect called at every scrape, to set the gauge; it may fail or hang, the last value stays */
  gauge<const L extends Labels = Labels>(
    spec: MetricSpec<L> & { collect?: (gauge: GaugeOf<L>) => void | Promise<void> },
  ): GaugeOf<L> {
    const collect = spec.collect && this.#bounded(async () => spec.collect?.(facade))
    const gauge = new Gauge({ ...this.#describe(spec), ...(collect && { collect }) })
    const facade: GaugeOf<L> = { set: (value, ...[labels]) => gauge.set(this.#close(spec, labels), value) }
    for (const labels of this.#series(spec)) gauge.set(labels, 0)
    return facade
  }

  /** @param spec.buckets upper bounds, rising */
  histogram<const L extends Labels = Labels>(spec: MetricSpec<L> & { buckets: readonly number[] }): HistogramOf<L> {
    const histogram = new Histogram({ ...this.#describe(spec), buckets: [...spec.buckets] })
    for (const labels of this.#series(spec)) histogram.zero(labels)
    return { observe: (value, ...[labels]) => histogram.observe(this.#close(spec, labels), value) }
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  /** The text of a scrape. */
  render(): Promise<string> {
    return this.#registry.metrics()
  }

  /** prom-client accepts NaN, and a counter that is NaN once is NaN for ever. */
  #amount({ name }: MetricSpec<Labels>, by: number): number {
    if (by >= 0 && by < Infinity) return by
    if (this.#strict) throw new FatalError(`${name} cannot grow by ${by}`)
    return 0
  }

  #describe({ name, help, labels = {}, configured = [] }: MetricSpec<Labels>) {
    if (!/^sluice_[a-z][a-z0-9_]*$/.test(name))
      throw new FatalError(`the metric ${name} must be called sluice_<what>_<unit>`)
    const unknown = configured.find((label) => !(label in labels))
    if (unknown !== undefined) throw new FatalError(`the metric ${name} has no label ${unknown}`)
    if (help.trim() === '') throw new FatalError(`the metric ${name} needs a help text`)
    return { name, help, labelNames: Object.keys(labels), registers: [this.#registry] }
  }

  #series({ name, labels = {}, configured = [] }: MetricSpec<Labels>): Record<string, string>[] {
    let series: Record<string, string>[] = [{}]
    let ours = 1
    for (const [label, values] of Object.entries(labels)) {
      if (!configured.includes(label)) ours *= values.length
      if (ours > MAX_SERIES) throw new FatalError(`the metric ${name} has more than ${MAX_SERIES} series`)
      series = series.flatMap((one) => values.map((value) => ({ ...one, [label]: value })))
    }
    return series
  }

  /** The labels, with every value that is outside its set replaced. Copies only when something is wrong. */
  #close({ name, labels: sets = {} }: MetricSpec<Labels>, labels: Record<string, string> = {}): Record<string, string> {
    let closed = labels
    for (const label in sets) {
      const value = labels[label] ?? 'undefined'
      if (sets[label]!.includes(value)) continue
      if (this.#strict) throw new FatalError(`${name}: ${label}=${JSON.stringify(value)} is not in its declared set`)
      closed = { ...closed, [label]: OTHER }
    }
    return closed
  }

  /**
   * Limits a `collect`: a scrape never fails or waits for long because the source of one gauge is down, and never asks
   * a source twice at the same time.
   */
  #bounded(collect: () => Promise<void>): () => Promise<void> {
    let running: Promise<void> | undefined
    return async () => {
      const late = Promise.withResolvers<never>()
      const timer = setTimeout(() => late.reject(new Error('too slow')), this.#collectMs)
      try {
        running ??= collect().finally(() => (running = undefined))
        await Promise.race([running, late.promise])
      } catch {
        this.#collectFailures.inc(1)
      } finally {
        clearTimeout(timer)
      }
    }
  }
}

import { describe, expect, test } from 'vitest'
import { FatalError } from './errors.ts'
import { Metrics } from './metrics.ts'

const REASONS = ['bad-signature', 'too-big'] as const
const metricsOf = (options: { strict?: boolean; collectMs?: number } = {}) =>
  new Metrics({ role: 'ingester', build: 'b1', ...options })

/** The lines of one metric in a scrape, without comments. */
async function linesOf(metrics: Metrics, name: string): Promise<string[]> {
  const text = await metrics.render()
  return text.split('\n').filter((line) => line.startsWith(name))
}

test('every combination of labels is there at 0 from the start', async () => {
  const metrics = metricsOf()
  metrics.counter({ name: 'sluice_refused_total', help: 'h', labels: { reason: REASONS, kind: ['live', 'bulk'] } })
  metrics.gauge({ name: 'sluice_lag_seconds', help: 'h', labels: { stream: ['a', 'b'] } })
  metrics.histogram({ name: 'sluice_batch_events', help: 'h', buckets: [1, 10], labels: { step: ['fold'] } })
  metrics.counter({ name: 'sluice_frames_total', help: 'h' })
  expect(await linesOf(metrics, 'sluice_refused_total')).toEqual([
    'sluice_refused_total{reason="bad-signature",kind="live"} 0',
    'sluice_refused_total{reason="bad-signature",kind="bulk"} 0',
    'sluice_refused_total{reason="too-big",kind="live"} 0',
    'sluice_refused_total{reason="too-big",kind="bulk"} 0',
  ])
  expect(await linesOf(metrics, 'sluice_lag_seconds')).toHaveLength(2)
  expect(await linesOf(metrics, 'sluice_batch_events_count')).toEqual(['sluice_batch_events_count{step="fold"} 0'])
  expect(await linesOf(metrics, 'sluice_frames_total')).toEqual(['sluice_frames_total 0'])
})

test('values arrive at their series', async () => {
  const metrics = metricsOf()
  const refused = metrics.counter({ name: 'sluice_refused_total', help: 'h', labels: { reason: REASONS } })
  const frames = metrics.counter({ name: 'sluice_frames_total', help: 'h' })
  const lag = metrics.gauge({ name: 'sluice_lag_seconds', help: 'h' })
  const batch = metrics.histogram({ name: 'sluice_batch_events', help: 'h', buckets: [1, 10] })
  refused.inc(2, { reason: 'too-big' })
  refused.inc(3, { reason: 'too-big' })
  frames.inc(7)
  lag.set(1.5)
  batch.observe(5)
  expect(await linesOf(metrics, 'sluice_refused_total{reason="too-big"}')).toEqual([
    'sluice_refused_total{reason="too-big"} 5',
  ])
  expect(await linesOf(metrics, 'sluice_frames_total')).toEqual(['sluice_frames_total 7'])
  expect(await linesOf(metrics, 'sluice_lag_seconds')).toEqual(['sluice_lag_seconds 1.5'])
  expect(await linesOf(metrics, 'sluice_batch_events_bucket{le="10"}')).toEqual([
    'sluice_batch_events_bucket{le="10"} 1',
  ])
})

test('the process and the build show as well, and two registries do not know each other', async () => {
  const [one, two] = [metricsOf(), metricsOf()]
  one.counter({ name: 'sluice_frames_total', help: 'h' })
  two.counter({ name: 'sluice_frames_total', help: 'h' })
  expect(await linesOf(one, 'sluice_build_info')).toEqual(['sluice_build_info{role="ingester",build="b1"} 1'])
  expect(await linesOf(one, 'process_resident_memory_bytes')).toHaveLength(1)
})

describe('a label outside its set', () => {
  const wrong = { reason: 'new' as 'too-big' }
  const declare = (strict: boolean) => {
    const metrics = metricsOf({ strict })
    const spec = { help: 'h', labels: { reason: REASONS } }
    return {
      metrics,
      counter: metrics.counter({ ...spec, name: 'sluice_refused_total' }),
      gauge: metrics.gauge({ ...spec, name: 'sluice_lag_seconds' }),
    }
  }

  test('throws in tests', () => {
    const { counter, gauge } = declare(true)
    expect(() => counter.inc(1, wrong)).toThrow('reason="new" is not in its declared set')
    expect(() => gauge.set(1, wrong)).toThrow(FatalError)
    expect(() => counter.inc(1, {} as never)).toThrow(FatalError)
    expect(() => counter.inc(NaN, { reason: 'too-big' })).toThrow(FatalError)
    expect(() => metricsOf().counter({ name: 'sluice_x_total', help: 'h' }).inc(-1)).toThrow(FatalError)
  })

  test('counts as other in production, and no amount can poison a counter', async () => {
    const { metrics, counter, gauge } = declare(false)
    counter.inc(2, wrong)
    counter.inc(NaN, { reason: 'too-big' })
    counter.inc(-5, { reason: 'too-big' })
    gauge.set(4, wrong)
    expect(await linesOf(metrics, 'sluice_refused_total')).toEqual([
      'sluice_refused_total{reason="bad-signature"} 0',
      'sluice_refused_total{reason="too-big"} 0',
      'sluice_refused_total{reason="other"} 2',
    ])
    expect(await linesOf(metrics, 'sluice_lag_seconds{reason="other"}')).toEqual([
      'sluice_lag_seconds{reason="other"} 4',
    ])
    expect(wrong).toEqual({ reason: 'new' })
  })
})

test.each([
  ['a name that is not ours', { name: 'frames_total', help: 'h' }],
  ['a counter without _total', { name: 'sluice_frames', help: 'h' }],
  ['no help', { name: 'sluice_frames_total', help: ' ' }],
  [
    'more series than a closed set has',
    { name: 'sluice_x_total', help: 'h', labels: { did: Array.from({ length: 1001 }, String) } },
  ],
])('%s cannot be declared', (_, spec) => {
  expect(() => metricsOf().counter(spec)).toThrow(FatalError)
})

test('values that configuration names are taken however many they are, those of other labels of the same metric are not', async () => {
  const host = Array.from({ length: 1_001 }, (_, i) => String(i))
  const metrics = metricsOf()
  const spec = { name: 'sluice_x_total', help: 'h', configured: ['host'] } as const
  metrics.counter({ ...spec, labels: { host, reason: REASONS } }).inc(1, { host: '1000', reason: 'too-big' })
  expect(await linesOf(metrics, 'sluice_x_total{host="1000",reason="too-big"}')).toEqual([
    'sluice_x_total{host="1000",reason="too-big"} 1',
  ])
  expect(() => metricsOf().counter({ ...spec, labels: { host: ['a'], did: host } })).toThrow(FatalError)
})

describe('gauges that are read at the scrape', () => {
  test('are set anew each time', async () => {
    const metrics = metricsOf()
    let depth = 0
    const labels = { stream: ['a', 'b'] } as const
    const collect = (gauge: { set(value: number, labels: { stream: 'a' | 'b' }): void }) =>
      gauge.set(++depth, { stream: 'a' })
    metrics.gauge({ name: 'sluice_depth_entries', help: 'h', labels, collect })
    expect(await linesOf(metrics, 'sluice_depth_entries')).toEqual([
      'sluice_depth_entries{stream="a"} 1',
      'sluice_depth_entries{stream="b"} 0',
    ])
    expect(await linesOf(metrics, 'sluice_depth_entries{stream="a"}')).toEqual(['sluice_depth_entries{stream="a"} 2'])
  })

  test('do not spoil the scrape when their source fails or hangs, and a hanging one is not asked again', async () => {
    const metrics = metricsOf({ collectMs: 20 })
    let asked = 0
    const name = 'sluice_depth_entries'
    metrics.gauge({
      name,
      help: 'h',
      collect: () => {
        asked += 1
        return new Promise(() => {})
      },
    })
    metrics.gauge({
      name: 'sluice_other_entries',
      help: 'h',
      collect: () => Promise.reject(new Error('Redis is away')),
    })
    expect(await linesOf(metrics, name)).toEqual([`${name} 0`])
    expect(await linesOf(metrics, name)).toEqual([`${name} 0`])
    expect(asked).toBe(1)
    const [failures] = await linesOf(metrics, 'sluice_metrics_collect_failures_total')
    expect(Number(failures!.split(' ')[1])).toBeGreaterThanOrEqual(2)
  })
})

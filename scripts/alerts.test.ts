/**
 * What the alerts tell of an event: one alert for one cause. Evaluated by Prometheus' own `promtool`, where that is
 * installed.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { parse } from 'yaml'
import { root } from './roles.ts'

const RULES = join(root, 'infra/prometheus/alerts.yml')
const ALERTS = (parse(readFileSync(RULES, 'utf8')) as { groups: { rules: { alert: string }[] }[] }).groups.flatMap(
  ({ rules }) => rules.map(({ alert }) => alert),
)
const isInstalled = spawnSync('promtool', ['--version']).status === 0

/** By name with labels: the value of each minute, as promtool notes it (`0x9 1x30`: ten times 0, then 31 times 1). */
type Series = Record<string, string>

/** The minute at which the alerts are looked at, and from which on the event has lasted for a while, or just been. */
const [NOW, LONG_AGO, JUST_NOW] = [130, 85, 126]
const always = (value: number): string => `${value}x${NOW}`
const until = (minute: number, before: number, after: number): string => `${before}x${minute - 1} ${after}x${NOW}`
/** What was never scraped before. */
const only = (minute: number, value: number): string => `_x${minute} ${value}x${NOW}`
/** What is not scraped any more. */
const ended = (minute: number, value: number): string => `${value}x${minute}`

/** A process, begun so many minutes after the first. */
const processOf = (role: string, instance: string, values: (value: number) => string, startMinute = -600): Series => ({
  [`process_start_time_seconds{instance="${instance}"}`]: values(startMinute * 60),
  [`sluice_build_info{role="${role}",build="a",instance="${instance}"}`]: values(1),
})

const LIVE_ENTRIES = 'sluice_ingester_backpressure{stream="firehose_live",by="entries",instance="ingester"}'
const LIVE_MEMORY = 'sluice_ingester_backpressure{stream="firehose_live",by="memory",instance="ingester"}'
const CONNECTED = 'sluice_ingester_connected{host="relay",instance="ingester"}'
const LABELERS = 'sluice_ingester_labelers_connected{host="labeler",instance="ingester"}'
const EVENT_AGE = 'sluice_ingester_last_event_age_seconds{host="relay",instance="ingester"}'
const FRAMES = 'sluice_ingester_frames_total{host="relay",type="commit",instance="ingester"}'
const RETRIES = 'sluice_indexer_batch_retries_total{instance="indexer"}'
const incidents = (kind: string, instance: string): string =>
  `sluice_incidents_total{kind="${kind}",instance="${instance}"}`
const letters = (instance: string): string =>
  `sluice_stream_dead_letters_total{stream="firehose_live",reason="constraint",instance="${instance}"}`

/** What the ingester says while it reads a relay and a labeler, and lists repositories. */
const ingester = (values: (value: number) => string): Series => ({
  ...processOf('ingester', 'ingester', values),
  [CONNECTED]: values(1),
  [LABELERS]: values(1),
  'sluice_ingester_listing_phase{phase="done",instance="ingester"}': values(1),
  [EVENT_AGE]: values(1),
  [LIVE_ENTRIES]: values(0),
  [LIVE_MEMORY]: values(0),
})

/** What the indexer says of a stream that it reads. It acks 600 entries a minute, unless told otherwise. */
const stream = (name: string, { lag = always(0), acked = `0+600x${NOW}`, entries = always(1) } = {}): Series => ({
  [`sluice_stream_lag_seconds{stream="${name}",instance="indexer"}`]: lag,
  [`sluice_stream_acked_entries_total{stream="${name}",instance="indexer"}`]: acked,
  [`sluice_stream_entries{stream="${name}",instance="indexer"}`]: entries,
  [`sluice_stream_pending_entries{stream="${name}",instance="indexer"}`]: entries,
})
/** The oldest entry becomes a minute older each minute. */
const AGEING = `0x${LONG_AGO - 1} 0+60x${NOW}`
const STOPPED = { lag: AGEING, acked: `0+600x${LONG_AGO} ${600 * LONG_AGO}x${NOW}` }
/** An ack every seven minutes. */
const IN_BURSTS = `0+600x${LONG_AGO} ${Array.from({ length: 7 }, (_, i) => `${600 * (LONG_AGO + i)}x6`).join(' ')}`
/** Six tries a minute. */
const TRIED_AGAIN = `0x${LONG_AGO - 1} 0+6x${NOW}`
/** For three minutes. */
const [RESTART_ACKED, RESTART_RETRIES] = [
  `0+600x${LONG_AGO} ${600 * LONG_AGO}x2 ${600 * LONG_AGO}+600x${NOW}`,
  `0x${LONG_AGO - 1} 0+6x3 18x${NOW}`,
]

const HEALTHY: Series = {
  ...ingester(always),
  ...stream('firehose_live'),
  ...stream('label_live'),
  [RETRIES]: always(0),
  ...processOf('backfiller', 'backfiller', always),
  ...processOf('indexer', 'indexer', always),
  [FRAMES]: `0+600x${NOW}`,
}

/** The alerts that fire beside nothing but this, at any of these minutes. */
function firing(changes: Series, minutes: readonly number[]): string[] {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-alerts-'))
  try {
    const file = join(dir, 'test.json')
    const series = Object.entries({ ...HEALTHY, ...changes }).map(([name, values]) => ({ series: name, values }))
    const expected = minutes.flatMap((minute) =>
      ALERTS.map((alertname) => ({ eval_time: `${minute}m`, alertname, exp_alerts: [] })),
    )
    const tests = [{ interval: '1m', input_series: series, alert_rule_test: expected }]
    // JSON is YAML. Nothing is expected, so promtool complains of each alert that fires.
    writeFileSync(file, JSON.stringify({ rule_files: [RULES], evaluation_interval: '1m', tests }))
    const { stdout, stderr, status } = spawnSync('promtool', ['test', 'rules', file], { encoding: 'utf8' })
    const found = [...`${stdout}${stderr}`.matchAll(/alertname: ?(\w+)/g)].map(([, name]) => name!)
    if (status !== 0 && found.length === 0) throw new Error(`${stdout}${stderr}`)
    return [...new Set(found)].toSorted()
  } finally {
    rmSync(dir, { recursive: true })
  }
}

const EVENTS: Record<string, [changes: Series, told: string[]]> = {
  nothing: [{}, []],
  'a lost group': [{ [incidents('group-lost', 'indexer')]: until(JUST_NOW, 0, 1) }, ['SluiceGroupLost']],
  'entries that somebody trimmed, found by the backfiller': [
    { [incidents('phantom-entries', 'backfiller')]: until(JUST_NOW, 0, 1) },
    ['SluiceGroupLost'],
  ],
  'a lost group that an indexer finds at its start': [
    {
      ...processOf('indexer', 'indexer-two', (value) => only(JUST_NOW, value), JUST_NOW),
      [incidents('group-lost', 'indexer-two')]: only(JUST_NOW, 1),
    },
    ['SluiceGroupLost'],
  ],
  'a relay that has forgotten our cursor': [
    { [incidents('outdated-cursor', 'ingester')]: until(JUST_NOW, 0, 1) },
    ['SluiceIncident'],
  ],
  'a dead letter': [
    { [letters('indexer')]: until(JUST_NOW, 0, 1), [incidents('dead-letters', 'indexer')]: until(JUST_NOW, 0, 1) },
    ['SluiceDeadLetters'],
  ],
  'a dead letter of an indexer that has just started': [
    {
      ...processOf('indexer', 'indexer-two', (value) => only(JUST_NOW, value), JUST_NOW),
      [letters('indexer-two')]: only(JUST_NOW, 1),
      [incidents('dead-letters', 'indexer-two')]: only(JUST_NOW, 1),
    },
    ['SluiceDeadLetters'],
  ],
  'a consumer that died, and whose entries were taken over': [
    { [incidents('consumer-died', 'indexer')]: until(JUST_NOW, 0, 1) },
    [],
  ],
  'a Redis that is full': [{ [LIVE_MEMORY]: until(LONG_AGO, 0, 1) }, ['SluiceMemoryFull']],
  'a full stream, for which the ingester has left its relay': [
    {
      [LIVE_ENTRIES]: until(LONG_AGO, 0, 1),
      [CONNECTED]: until(LONG_AGO, 1, 0),
      [EVENT_AGE]: `1x${LONG_AGO - 1} 60+60x${NOW}`,
    },
    ['SluiceBackpressure'],
  ],
  'a relay that is away': [
    { [CONNECTED]: until(LONG_AGO, 1, 0), [EVENT_AGE]: `1x${LONG_AGO - 1} 60+60x${NOW}` },
    ['SluiceRelayDisconnected'],
  ],
  'a relay that is connected, and sends old events': [
    { [EVENT_AGE]: until(LONG_AGO, 1, 3_600) },
    ['SluiceIngesterBehind'],
  ],
  'no ingester any more': [ingester((value) => ended(LONG_AGO, value)), ['SluiceDaemonGone']],
  'no process any more that reads labels': [{ [LABELERS]: ended(LONG_AGO, 1) }, ['SluiceLabelsGone']],
  'no process any more that reads the firehose': [
    { [CONNECTED]: ended(LONG_AGO, 1), [EVENT_AGE]: ended(LONG_AGO, 1) },
    ['SluiceFirehoseGone'],
  ],
}

test.skipIf(!isInstalled).each(Object.entries(EVENTS))('%s: told once, if at all', (_, [changes, told]) => {
  expect(firing(changes, [NOW])).toEqual(told)
})

/** What one of these causes leads to comes minutes later: nothing that is told meanwhile is taken back by another. */
const STANDSTILLS: Record<string, [changes: Series, told: string[]]> = {
  'a PostgreSQL that is away': [
    { ...stream('firehose_live', STOPPED), ...stream('label_live', STOPPED), [RETRIES]: TRIED_AGAIN },
    ['SluicePostgresTrouble'],
  ],
  'a PostgreSQL that was away for three minutes': [
    {
      ...stream('firehose_live', { acked: RESTART_ACKED }),
      ...stream('label_live', { acked: RESTART_ACKED }),
      [RETRIES]: RESTART_RETRIES,
    },
    [],
  ],
  'a PostgreSQL that takes some batches, too few': [
    { ...stream('firehose_live', { lag: AGEING }), [RETRIES]: TRIED_AGAIN },
    ['SluiceLag', 'SluicePostgresTrouble'],
  ],
  'an indexer that reads nothing any more': [
    { ...stream('firehose_live', STOPPED), ...stream('label_live', STOPPED) },
    ['SluiceIndexerStandsStill'],
  ],
  'a stream that nobody reads, while batches of another are tried again and some succeed': [
    { ...stream('firehose_live', STOPPED), [RETRIES]: TRIED_AGAIN },
    ['SluiceIndexerStandsStill', 'SluicePostgresTrouble'],
  ],
  'an indexer that is too slow': [stream('firehose_live', { lag: AGEING }), ['SluiceLag']],
  'an indexer that acks something every seven minutes': [
    stream('firehose_live', { lag: AGEING, acked: IN_BURSTS }),
    ['SluiceLag'],
  ],
}

test.skipIf(!isInstalled).each(Object.entries(STANDSTILLS))('%s: told by its cause alone', (_, [changes, told]) => {
  const minutes = Array.from({ length: NOW - LONG_AGO + 1 }, (_, i) => LONG_AGO + i)
  expect(firing(changes, minutes)).toEqual(told)
})
